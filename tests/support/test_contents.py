"""What is in a support bundle: nothing but allowed fields, redacted, newest first, and never more than the bound."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from posagent import config as configuration
from posagent.agent.journal import Journal
from posagent.config import Config
from posagent.core import envelope, model
from posagent.core.errors import PosagentError
from posagent.core.model import Observation, Situation, SlotView, State, Update
from posagent.core.ports import PowerReading
from posagent.core.redact import Redactor
from posagent.core.spoken import code_of
from posagent.platform.storage import LinuxFiles
from posagent.release import keys
from posagent.sim.virtual import VirtualTime
from posagent.support import fields
from posagent.support.service import FILE_BYTES_MAX, Maker
from tests.planted import CARDS, card_numbers
from tests.records import ROLLED_BACK

CONFIG = """\
[terminal]
id = "pos-0001"
hardware = "acme"
state_dir = "{base}/state"
[slots.a]
device = "/dev/a"
[slots.b]
device = "/dev/b"
[fetch]
repository_url = "https://user:hunter2@updates.example.com/p400?key=abc"
[boot]
reboot_command = ["/bin/reboot", "--password=hunter2"]
[support]
vendor_key_file = "{base}/keys/vendor.pub.pem"
bytes_max = {bytes_max}
[[selftest.checks]]
name = "reader {card}"
kind = "command"
command = ["/bin/test", "hunter2"]
"""


@dataclasses.dataclass
class Desk:
    base: Path

    def config(self, bytes_max: int = 65536) -> Config:
        return configuration.parse(CONFIG.format(base=self.base, bytes_max=bytes_max, card=CARDS[1]))

    def made(self, bytes_max: int = 65536, **args: Any) -> dict[str, Any]:
        maker = Maker(self.config(bytes_max), LinuxFiles(), VirtualTime(), {"kernel": "6.1"})
        (message,) = maker.make({"reason": "asked for", "live": {}, "log": [], **args})
        result: dict[str, Any] = message["result"]
        return result

    def opened(self, result: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        import base64

        file = base64.b64decode(result["file"])
        assert (len(file), hashlib.sha256(file).hexdigest()) == (result["size"], result["sha256"])
        assert result["code"] == code_of(hashlib.sha256(file).digest())
        text = json.loads(envelope.opened(file, keys.vendor_pem(self.base / "keys/vendor.pem")))
        return text["about"], text["parts"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    base = tmp_path_factory.mktemp("desk")
    keys.init(base / "keys")
    (base / "state").mkdir()
    return Desk(base)


def journal(desk: Desk, count: int, detail: str = "") -> None:
    path = desk.base / "state/journal"
    path.unlink(missing_ok=True)
    opened = Journal(LinuxFiles(), str(path))
    for number in range(count):
        opened.append({"event": "due", "state": "idle", "at": number, "failure": {"code": "x", "detail": detail}})


def test_a_bundle_says_what_it_is_and_opens_with_the_vendors_key(desk: Desk) -> None:
    journal(desk, 3)
    about, parts = desk.opened(desk.made(live={"status": {"state": "idle"}}, log=[{"event": "started"}]))
    assert (about["terminal"], about["reason"], about["versions"]["kernel"]) == ("pos-0001", "asked for", "6.1")
    assert parts.keys() == {"status.json", "configuration.json", "log.jsonl", "journal.jsonl"} == about["parts"].keys()
    assert [json.loads(line)["at"] for line in parts["journal.jsonl"].splitlines()] == [0, 1, 2]
    assert json.loads(parts["status.json"]) == {"state": "idle"} and about["left_out"] == []


def test_of_the_configuration_go_numbers_and_few_texts_and_no_secret(desk: Desk) -> None:
    about, parts = desk.opened(desk.made())
    shown = json.loads(parts["configuration.json"])
    assert shown["fetch.attempts_max"] == 20 and shown["selftest.checks.0.kind"] == "command"
    assert shown["fetch.repository_url"] == "https://[secret]@updates.example.com/p400?[secret]"
    assert shown["selftest.checks.0.name"] == "reader [card]"
    assert "hunter2" not in json.dumps(parts) and not any("command" in name for name in shown if name != "selftest")
    assert about["redacted"] == {"[secret]": 2, "[card]": 1}


def test_every_key_of_the_configuration_is_told_or_left_out_on_purpose(desk: Desk) -> None:
    """Who adds a text decides whether it may leave the terminal."""
    shown = fields.configured(desk.config(), Redactor())
    left = sorted(
        f"{table.name}.{field.name}"
        for table in dataclasses.fields(Config)
        for field in dataclasses.fields(getattr(desk.config(), table.name))
        if table.name not in ("slots",) and f"{table.name}.{field.name}" not in shown
    )
    assert left == [
        *("api.admin_groups", "api.payment_groups"),
        *("boot.boot_id_file", "boot.cmdline_file", "boot.custom_command", "boot.fw_printenv", "boot.fw_setenv"),
        *("boot.grub_editenv", "boot.grub_files", "boot.reboot_command"),
        *("console.engineer_ca_file", "console.revoked_file", "console.rz"),
        *("data.counters", "data.key", "data.ledger", "data.pkcs11_key", "data.pkcs11_module"),
        *("data.pkcs11_pin_file", "data.pkcs11_token", "data.reload_command"),
        *("fleet.certificate_file", "fleet.certificate_key_file", "fleet.gateway_token_file"),
        *("fleet.metrics_url", "fleet.target_token_file", "selftest.checks"),
        *("terminal.agent_user", "trust.group_key_file"),
    ]


def test_no_field_of_the_agents_own_is_forgotten_but_those_that_name_people() -> None:
    """Who adds a field decides whether it may leave the terminal."""
    own = {
        field.name
        for kind in (Situation, Update, Observation, SlotView, PowerReading)
        for field in dataclasses.fields(kind)
    }
    assert own - fields.ALLOWED == {"requested_by", "consent_by", "deferred_by"}


def test_the_record_of_an_update_goes_without_the_people_in_it(desk: Desk) -> None:
    situation = Situation(outcomes=(ROLLED_BACK,))
    _, parts = desk.opened(desk.made(live={"situation": model.snapshot(situation)["snapshot"]}))
    (shown,) = json.loads(parts["situation.json"])["outcomes"]
    told, record = shown["record"], ROLLED_BACK["record"]
    assert all(told[name] == record[name] for name in ("phases", "waited", "digests", "measures", "power_cycles"))
    assert not {"by", "consent", "deferred_by"} & told.keys()


def test_what_is_not_named_stays_and_what_is_named_is_redacted(desk: Desk) -> None:
    situation = Situation(
        state=State.DOWNLOAD,
        update=Update(
            id="u1", source=f"https://u:p@h/{CARDS[0]}", spool="s", target="b", previous="a", requested_by="Li Wei"
        ),
        failure={"code": "x", "detail": f"read {CARDS[2]}", "evil": "x", "number": 1},
        measured={"download": {"seconds": 1.0, "bytes": 2.0}},
    )
    live = {
        "situation": model.snapshot(situation)["snapshot"],
        "../x": {"state": "idle"},
        "power": {"cycles": 4111111111111111},
    }
    about, parts = desk.opened(desk.made(live=live))
    shown = json.loads(parts["situation.json"])
    assert shown["update"]["source"] == "https://[secret]@h/[card]" and "requested_by" not in shown["update"]
    assert shown["failure"] == {"code": "x", "detail": "read [card]"}
    assert shown["measured"] == {"download": {"seconds": 1.0, "bytes": 2.0}}
    assert json.loads(parts["power.json"]) == {"cycles": "[card]"}
    assert not any("x" in name for name in parts if name.startswith("."))
    assert card_numbers(json.dumps(parts)) == [] and about["redacted"]["[card]"] >= 3


def test_the_newest_of_journal_and_log_are_kept_within_the_bound(desk: Desk) -> None:
    journal(desk, 90, "x" * 900)
    log = [{"event": f"e{number}", "detail": "y" * 200} for number in range(400)]
    about, parts = desk.opened(desk.made(32 << 10, log=log))
    records = [json.loads(line)["at"] for line in parts["journal.jsonl"].splitlines()]
    lines = [json.loads(line)["event"] for line in parts["log.jsonl"].splitlines()]
    assert records == list(range(90 - len(records), 90)) and len(records) > 10
    assert lines[-1] == "e399" and 10 < len(lines) < 200
    assert about["left_out"] == ["log.jsonl: older lines", "journal.jsonl: older lines"]
    assert (
        len(json.dumps({"about": about, "parts": parts}, ensure_ascii=False, separators=(",", ":")).encode())
        <= 32 << 10
    )


def test_a_part_that_does_not_fit_is_left_out_and_the_others_stay(desk: Desk) -> None:
    journal(desk, 0)
    about, parts = desk.opened(desk.made(32 << 10, live={"status": {"detail": "z" * 40_000}, "why": {"state": "idle"}}))
    assert about["left_out"] == ["status.json"] and json.loads(parts["why.json"]) == {"state": "idle"}


def test_the_file_fits_into_an_answer_however_badly_it_compresses(desk: Desk) -> None:
    noise = random.Random(5)
    log = [{"detail": "".join(noise.choices("abcdefghjkmnpqrstuvwxyz .,;", k=900))} for _ in range(1000)]
    journal(desk, 0)
    result = desk.made(1 << 20, log=log * 3)
    assert result["size"] <= FILE_BYTES_MAX
    assert desk.opened(result)[0]["left_out"] == ["log.jsonl: older lines"]


def test_a_damaged_or_missing_journal_is_told(desk: Desk) -> None:
    journal(desk, 2)
    path = desk.base / "state/journal"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(bytes(data))
    lines = desk.opened(desk.made())[1]["journal.jsonl"].splitlines()
    assert [json.loads(line).get("detail") for line in lines] == ["damaged", None]
    path.unlink()
    (line,) = desk.opened(desk.made())[1]["journal.jsonl"].splitlines()
    assert "No such file" in line


@pytest.mark.parametrize("key", ["", "/none/vendor.pem", "{base}/keys/root-1.pem", "{base}/state"])
def test_without_the_vendors_public_key_nothing_is_made(desk: Desk, key: str) -> None:
    config = desk.config()
    support = dataclasses.replace(config.support, vendor_key_file=key.format(base=desk.base))
    maker = Maker(dataclasses.replace(config, support=support), LinuxFiles(), VirtualTime(), {})
    with pytest.raises(PosagentError) as caught:
        list(maker.make({}))
    assert caught.value.code == "support_no_key" and "vendor_key_file" in caught.value.spec.remedy


@pytest.mark.parametrize(
    "args", [{}, {"live": 7, "log": "x", "reason": None}, {"live": {"a": [[[]]]}, "log": [None, 3]}]
)
def test_a_senseless_request_still_gives_what_there_is(desk: Desk, args: dict[str, Any]) -> None:
    maker = Maker(desk.config(), LinuxFiles(), VirtualTime(), {})
    (message,) = maker.make(args)
    assert "configuration.json" in desk.opened(message["result"])[1]
