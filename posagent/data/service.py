"""posagent-data: the worker that keeps the merchant's data, put together. A composition root.

Rules: root only for the sake of owners, with no network. One verb at a time, whoever asks: the lock is the kernel's and
goes with the process. `posagent-data --select` does the verb `select` at the start of the system, before the payment
application, and needs no agent.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from posagent import config as configuration
from posagent import worker
from posagent.config import Config
from posagent.core import parameters
from posagent.core.durable import parent
from posagent.core.errors import EXIT_CODES, PosagentError, Refusal
from posagent.core.ports import Message, Verb
from posagent.data.generations import Generations, result_of, trouble
from posagent.data.parameters import FOLDER, ParameterSets
from posagent.data.vault import Vault
from posagent.platform.boot import boot_control, running_version
from posagent.platform.commands import CommandFailed, run
from posagent.platform.host import LinuxClock
from posagent.platform.schema import SchemaFile
from posagent.platform.sqlite import SqliteDatabases
from posagent.platform.steps import LinuxSteps
from posagent.platform.storage import LinuxFiles, lock
from posagent.platform.trees import LinkPublisher, LinuxTrees

if TYPE_CHECKING:
    from posagent.data.keys import KeyStore

NAME = "posagent-data"
LOCK = "lock"
KEY, KEY_MODE = "key", 0o600
PUBLIC_MODE = 0o644
PARAMETERS_LINK = "parameters.json"
RELOAD_S = 60.0
WORD_LENGTH_MAX = 64


class DataWorker:
    """The verbs. Each raises PosagentError."""

    def __init__(self, config: Config) -> None:
        self._config, self._data = config, config.data

    @property
    def verbs(self) -> Mapping[str, Verb]:
        return {
            "select": lambda _: self._alone(lambda: self._generations.select()),
            "migrate": lambda _: self._alone(lambda: self._generations.migrate()),
            "switch": self._switch,
            "tidy": self._tidy,
            "backup": self._backup,
            "verify": lambda _: self._alone(lambda: self._vault.verify()),
            "restore": self._restore,
            "parameters": self._parameters,
        }

    def _switch(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{committed_at}`, seconds since 1970."""
        at = _seconds(args, "committed_at")
        return self._alone(lambda: self._generations.switch(at))

    def _tidy(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{now?}`, seconds since 1970; by the terminal's clock where it is not said."""
        now = _seconds(args, "now") if "now" in args else LinuxClock().wall()
        return self._alone(lambda: self._generations.tidy(now))

    def _backup(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{update_id, version}`: of the update that it is made for."""
        update_id, version = _word(args, "update_id"), _word(args, "version")
        return self._alone(lambda: self._vault.backup(update_id, version))

    def _restore(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{name, dry_run}`; only a `dry_run` of false changes anything."""
        name, dry_run = _word(args, "name"), args.get("dry_run") is not False
        return self._alone(lambda: self._vault.restore(name, dry_run=dry_run))

    def _parameters(self, args: Mapping[str, Any]) -> Iterator[Message]:
        """`{do, update_id}`, see Generations.alone."""
        do, update_id = _word(args, "do"), _word(args, "update_id")
        return self._alone(lambda: self._generations.alone(do, update_id))

    def _alone(self, verb: Callable[[], Iterator[Message]]) -> Iterator[Message]:
        """The verb, while nobody else does one."""
        if not self._data.format:
            raise Refusal("bad_request", "this terminal has no data to keep: data.format is 0")
        with trouble():
            for path in (self._data.root_dir, f"{self._data.root_dir}/{FOLDER}"):
                self._trees.make_dir(path)
                self._trees.protect(path, passable=True)
        held = lock(f"{self._data.root_dir}/{LOCK}")
        try:
            yield from verb()
        finally:
            held.release()

    @cached_property
    def _trees(self) -> LinuxTrees:
        try:
            return LinuxTrees(self._data.root_dir, self._data.owner)
        except KeyError:
            raise self._no_owner() from None

    @cached_property
    def _databases(self) -> SqliteDatabases:
        return SqliteDatabases(self._data.root_dir)

    @cached_property
    def _generations(self) -> Generations:
        config, data, clock = self._config, self._data, LinuxClock()
        slot = boot_control(config.boot, config.slots).booted()
        version = running_version(config.terminal.os_release_file)
        installer_dir = config.terminal.installer_dir

        def on_trial() -> bool:
            return self._trees.size(f"{installer_dir}/trial-{slot}") is not None

        sets = ParameterSets(
            files=LinuxFiles(PUBLIC_MODE),
            publisher=LinkPublisher(f"{parent(data.link)}/{PARAMETERS_LINK}"),
            schema=SchemaFile(data.parameters_schema),
            root=data.root_dir,
            staged=lambda: parameters.left(LinuxFiles(), installer_dir),
            reload=self._reload if data.reload_command else None,
            mine=parameters.trial_of(slot, version),
            on_trial=on_trial,
        )
        return Generations(
            trees=self._trees,
            databases=self._databases,
            steps=LinuxSteps(data.steps_dir, owner=data.owner, timeout_s=data.step_timeout_s, clock=clock),
            publisher=LinkPublisher(data.link),
            clock=clock,
            data=data,
            slot=slot,
            version=version,
            on_trial=on_trial,
            parameters=sets,
        )

    def _reload(self) -> None:
        try:
            run(self._data.reload_command, timeout_s=RELOAD_S)
        except CommandFailed as error:
            raise PosagentError("parameters_reload", str(error)) from None

    @cached_property
    def _vault(self) -> Vault:
        from posagent.data.backup import Backups  # cryptography, which only backups need

        data, clock = self._data, LinuxClock()
        sealer = Backups(
            trees=self._trees,
            databases=self._databases,
            keys=self._keys,
            clock=clock,
            root_dir=data.root_dir,
            sources=data.sources,
            excluded=data.excluded,
        )
        return Vault(self._generations, sealer, clock, self._config.terminal.id)

    @property
    def _keys(self) -> KeyStore:
        data, files = self._data, LinuxFiles(KEY_MODE)
        if data.key == "file":
            from posagent.data.keys import FileKeys

            return FileKeys(files, f"{data.root_dir}/{KEY}")
        try:
            from posagent.platform.pkcs11 import Pkcs11Keys
        except ImportError:
            raise PosagentError("data_key", "python-pkcs11 is not installed in this image") from None
        return Pkcs11Keys(
            files,
            module=data.pkcs11_module,
            token=data.pkcs11_token,
            label=data.pkcs11_key,
            pin_file=data.pkcs11_pin_file,
        )

    def _no_owner(self) -> PosagentError:
        return PosagentError("config_bad_value", f"data.owner: there is no user {self._data.owner!r}")


def _word(args: Mapping[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= WORD_LENGTH_MAX or not value.isprintable():
        raise Refusal("bad_request", f"{name} must be a word")
    return value


def _seconds(args: Mapping[str, Any], name: str) -> float:
    value = args.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 40:
        raise Refusal("bad_request", f"{name} must be seconds since 1970")
    return float(value)


def _select(config: Config) -> int:
    """At the start of the system. What is withheld on purpose, because it is on trial, is no failure."""
    if not config.data.format:
        return 0
    found = result_of(DataWorker(config).verbs["select"]({}))
    if found["problem"]:
        error = PosagentError(found["problem"])
        _tell(error, found["published"])
        return 0 if found["published"] else EXIT_CODES[error.spec.kind]
    return 0


def _tell(error: PosagentError, published: str = "") -> None:
    what = f"published: {published or 'nothing'}"
    print(f"{NAME}: {error.code}: {error.detail} ({what})\n  {error.spec.remedy}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=NAME, description="Keeps the merchant's data; a worker of posagentd.")
    parser.add_argument("--select", action="store_true", help="publish the data that belongs to what was booted")
    parser.add_argument("--config", default=configuration.DEFAULT_PATH, help="configuration file")
    arguments = parser.parse_args(argv)
    if not arguments.select:
        return worker.main(NAME, lambda config: DataWorker(config).verbs, ["--config", arguments.config])
    try:
        return _select(configuration.load(arguments.config))
    except PosagentError as error:
        _tell(error)
        return EXIT_CODES[error.spec.kind]


if __name__ == "__main__":
    sys.exit(main())
