"""What the configuration says of the merchant's data: where it is, which form it has, how its money is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from posagent.core.ledger import CounterSource, LedgerSource
from posagent.tables import between, one_of


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """The merchant's data (docs/data.md). `format` is the form that this image's payment application reads and writes;
    0: there is no data to keep. `root_dir` is root's; the payment application opens `link`. The data and the migration
    steps are those of the user `owner`; "" is whoever runs the worker. A backup has the `sources` inside the data, but
    not what is `excluded`, and is kept for `backup_keep_h` after a commit. The payment application finds its parameters
    as `parameters.json` beside `link`, where the image's JSON Schema `parameters_schema` accepts them; `reload_command`
    has it read them again while it runs."""

    format: int = between(0, 1_000_000, 0)
    root_dir: str = "/var/lib/posagent-data"
    link: str = "/run/posagent-data/current"
    owner: str = ""
    steps_dir: str = "/usr/lib/posagent/migrate.d"
    step_timeout_s: int = between(1, 3600, 120)
    sources: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    backup_keep_h: int = between(1, 8760, 72)
    key: str = one_of("file", "pkcs11", default="file")
    pkcs11_module: str = ""
    pkcs11_token: str = ""
    pkcs11_key: str = ""
    pkcs11_pin_file: str = ""
    parameters_schema: str = ""
    reload_command: tuple[str, ...] = ()
    ledger: LedgerSource = field(default=LedgerSource())
    counters: tuple[CounterSource, ...] = ()
