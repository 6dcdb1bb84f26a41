"""Who gets in, what a role may, what is signed for again, and what the audit log has of it: with real keys."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from posagent.console.auth import ROLES
from posagent.console.question import Api
from posagent.core import audit
from posagent.core.audit import FILE
from posagent.core.errors import PosagentError
from posagent.core.model import State
from posagent.core.ports import Message
from posagent.installer import notary
from posagent.release import bundle
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import HARDWARE, Desk
from tests.console.engineers import certify, make_key, sign
from tests.console.laptop import Laptop
from tests.console.security_key import SecurityKey
from tests.console.visit import Visit

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def laptop(in_process: Callable[[], InProcessTerminal], certificates: Mapping[str, Path]) -> Laptop:
    return Laptop(in_process(), certificates)


def configure(laptop: Laptop, key: str, path: Path) -> None:
    """Name a file in [console] of the configuration; a fresh session, as after a start."""
    config = laptop.terminal.layout.config
    lines = [line for line in config.read_text().splitlines() if not line.startswith(f"{key} =")]
    config.write_text("\n".join(lines).replace("[console]\n", f'[console]\n{key} = "{path}"\n'))
    laptop.plug_in()


def log_of(laptop: Laptop) -> Path:
    return laptop.terminal.layout.state / FILE


def troubles(laptop: Laptop) -> list[str]:
    return [problem["code"] for problem in laptop.terminal.ask("status")["problems"]]


def verdict(laptop: Laptop) -> audit.Verdict:
    found = notary.verify(log_of(laptop).read_bytes())
    assert found.breaks == []
    return found


# roles


def test_every_role_may_what_it_says_and_nothing_else(laptop: Laptop) -> None:
    everything = sorted(frozenset().union(*ROLES.values()))
    for role in ROLES:
        assert "unlocked" in laptop.unlock(role), role
        for verb in everything:
            allowed = verb in ROLES[role]
            assert (laptop.code(verb) != "not_allowed") is allowed, (role, verb)
        laptop.ask("logout")
    assert "not_allowed" not in {laptop.code(verb) for verb in ("status", "why", "help")}


def test_a_certificate_for_one_role_unlocks_no_other(laptop: Laptop) -> None:
    for role in ROLES:
        for who in ROLES:
            if who != role:
                assert "[unlock_refused]" in laptop.unlock(role, who), (role, who)
                laptop.terminal.time.let_pass(400)
    assert laptop.locked


# who gets in


def test_a_security_key_unlocks_the_terminal(laptop: Laptop, desk: Desk, tmp_path: Path) -> None:
    key = SecurityKey(tmp_path / "key", "ed25519")
    certificate = certify(desk.keys / "engineer-ca", key.path, role="look")
    challenge = laptop.ask_json("unlock look")["challenge"]
    assert "unlocked: Li Wei as look" in laptop.ask(key.answer(certificate, challenge).strip().replace("\n", "\r"))


def test_a_revoked_engineer_stays_out_and_the_list_is_read_anew_each_time(laptop: Laptop, tmp_path: Path) -> None:
    revoked = tmp_path / "revoked"
    revoked.write_text("# nobody yet\n")
    configure(laptop, "revoked_file", revoked)
    assert "unlocked" in laptop.unlock()
    laptop.ask("logout")
    revoked.write_text("this line is not understood\nid: Li Wei\n")
    assert "revoked [unlock_refused]" in laptop.unlock()
    assert laptop.locked


@pytest.mark.parametrize("content", [None, b"# x\n" * (1 << 17)], ids=["missing", "endless"])
def test_a_list_that_cannot_be_read_as_a_whole_lets_nobody_in(
    laptop: Laptop, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "revoked").write_bytes(content)
    configure(laptop, "revoked_file", tmp_path / "revoked")
    assert "[trust_store_damaged]" in laptop.unlock()
    assert laptop.locked
    assert "challenge" in laptop.ask_json("unlock update"), "and it is no failed try"


def test_an_authority_is_replaced_without_a_restart_of_the_agent(laptop: Laptop, desk: Desk, tmp_path: Path) -> None:
    authorities = tmp_path / "authorities"
    current = (desk.keys / "engineer-ca.pub").read_text()
    upcoming = make_key(tmp_path / "next-ca")
    newcomer = certify(upcoming, make_key(tmp_path / "newcomer"))
    configure(laptop, "engineer_ca_file", authorities)

    def comes_in(certificate: Path | None) -> bool:
        laptop.terminal.time.let_pass(400)
        challenge = laptop.ask_json("unlock update")["challenge"]
        answer = laptop.sign(challenge) if certificate is None else sign(certificate, challenge).strip()
        came = "unlocked" in laptop.ask(answer.replace("\n", "\r"))
        laptop.ask("logout")
        return came

    authorities.write_text(current)
    assert (comes_in(None), comes_in(newcomer)) == (True, False)
    authorities.write_text(current + Path(f"{upcoming}.pub").read_text())
    assert (comes_in(None), comes_in(newcomer)) == (True, True)
    authorities.write_text(Path(f"{upcoming}.pub").read_text())
    assert (comes_in(None), comes_in(newcomer)) == (False, True)


def test_a_hang_up_while_the_answer_is_looked_at_costs_a_try(laptop: Laptop) -> None:
    laptop.type(laptop.sign(laptop.ask_json("unlock update")["challenge"]) + "\r")
    laptop.session.hang_up()
    assert laptop.ask_json("unlock update")["expected_s"] == pytest.approx(2, abs=0.2)


# signed for again


class WithRollback:
    """question.Api with the verbs `slots` and `rollback`; the rest is the terminal's own."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.back: Any = {"possible": True, "slot": "b", "version": "1.0.0"}
        self.done: list[tuple[dict[str, Any], str]] = []

    def call(
        self, verb: str, args: dict[str, Any], reply: Callable[[Message], None], caller: str
    ) -> Callable[[], None]:
        if verb == "slots":
            reply({"result": {"rollback": self.back}})
        elif verb == "rollback":
            self.done.append((args, caller))
            reply({"result": {"id": "1", "version": args["version"]}})
        else:
            return self._api.call(verb, args, reply, caller)
        return lambda: None


@pytest.fixture
def back(laptop: Laptop) -> WithRollback:
    """What is asked for with the laptop unlocked for a rollback."""
    api = WithRollback(laptop.terminal.api)
    laptop.plug_in(api)
    laptop.unlock("rollback")
    return api


def test_a_rollback_is_carried_out_when_exactly_it_was_signed_for(laptop: Laptop, back: WithRollback) -> None:
    shown = laptop.ask("rollback")
    challenge = shown.splitlines()[0]
    assert challenge.startswith("posagent-console-v1 ") and challenge.endswith(" rollback rollback b 1.0.0")
    assert "to be signed: rollback b 1.0.0 [sign_again]" in shown and back.done == []
    shown = laptop.ask(laptop.sign(challenge, "rollback"))
    assert "signed: Li Wei for: rollback b 1.0.0" in shown
    assert back.done == [({"slot": "b", "version": "1.0.0"}, "console Li Wei")]
    assert laptop.code("rollback") == "sign_again", "once"
    heard = [one for one in laptop.heard("event", "verb", "action", "code") if one[1] != "follow"]
    assert heard[-5:] == [
        ("command", "rollback", None, "sign_again"),
        ("signed", None, "rollback b 1.0.0", "ok"),
        ("command", "rollback", None, "ok"),
        ("command", "sign", None, "ok"),
        ("command", "rollback", None, "sign_again"),
    ]


def test_what_was_signed_for_is_not_done_where_it_has_changed(laptop: Laptop, back: WithRollback) -> None:
    challenge = laptop.ask_json("rollback")["challenge"]
    back.back = {"possible": True, "slot": "b", "version": "0.9.0"}
    assert "rollback rollback b 0.9.0" in laptop.ask(laptop.sign(challenge, "rollback")), "and it asks anew"
    assert back.done == []


def test_a_signature_for_an_action_lasts_a_minute_and_no_longer_than_the_session(
    laptop: Laptop, back: WithRollback
) -> None:
    challenge = laptop.ask_json("rollback")["challenge"]
    answer = laptop.sign(challenge, "rollback")
    laptop.terminal.time.let_pass(61)
    assert "[unlock_expired]" in laptop.ask(answer)
    laptop.access.sign("rollback b 1.0.0")
    laptop.ask("logout")
    laptop.unlock("rollback")
    assert laptop.code("rollback") == "sign_again"
    assert back.done == []


def test_another_engineers_signature_does_not_count(
    laptop: Laptop, back: WithRollback, desk: Desk, tmp_path: Path
) -> None:
    challenge = laptop.ask_json("rollback")["challenge"]
    other = certify(desk.keys / "engineer-ca", make_key(tmp_path / "other"), role="rollback")
    answer = sign(other, challenge).strip().replace("\n", "\r")
    assert "another key than the one that unlocked [unlock_refused]" in laptop.ask(answer)
    assert back.done == []


def test_the_answer_that_unlocked_signs_for_nothing(laptop: Laptop, back: WithRollback) -> None:
    laptop.ask("logout")
    challenge = laptop.ask_json("unlock rollback")["challenge"]
    answer = laptop.sign(challenge, "rollback")
    assert "unlocked" in laptop.ask(answer)
    laptop.ask("rollback")
    assert "[unlock_refused]" in laptop.ask(answer)
    assert back.done == []


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"possible": False, "refusal": "counter_too_low", "remedy": "-"}, "counter_too_low"),
        ({"possible": False}, "internal"),
        ({"possible": "yes", "slot": "b", "version": "1.0.0"}, "internal"),
        ({"possible": True, "slot": "b", "version": ""}, "internal"),
        ({"possible": True, "slot": "b", "version": "x" * 65}, "internal"),
        ({"possible": True, "slot": 1, "version": "1"}, "internal"),
        ({"possible": True, "slot": "b", "version": "1\r\nroot"}, "bad_request"),
        ({}, "internal"),
        (None, "internal"),
    ],
    ids=str,
)
def test_a_rollback_that_is_not_possible_is_neither_signed_for_nor_begun(
    laptop: Laptop, back: WithRollback, said: Any, code: str
) -> None:
    back.back = said
    assert laptop.code("rollback") == code
    assert back.done == []


def test_a_terminal_goes_back_to_the_version_that_was_signed_for(laptop: Laptop, desk: Desk) -> None:
    laptop.unlock("rollback")
    assert laptop.code("rollback") == "rollback_no_version", "there is nothing to go back to, and nothing to sign"
    laptop.terminal.ask("update", source=str(desk.bundles["2.0.0"]))
    assert laptop.terminal.run_to_idle()["outcome"] == "committed"
    laptop.plug_in()
    laptop.unlock("rollback")
    shown = laptop.ask("rollback").splitlines()
    assert shown[0].endswith(" rollback rollback a 1.0.0") and laptop.terminal.state is State.IDLE
    laptop.type(laptop.sign(shown[0], "rollback") + "\r")
    laptop.terminal.run_until(lambda terminal: terminal.state is not State.IDLE)
    assert laptop.terminal.run_to_idle()["outcome"] == "committed"
    assert laptop.terminal.ask("status")["booted"] == "a"
    laptop.terminal.settle()
    (begun,) = [one for one in laptop.records if one["event"] == "update_begun" and one.get("version") == "1.0.0"]
    assert begun["by"] == "console Li Wei"
    assert verdict(laptop).sealed > 0


def test_a_program_signs_again_in_the_same_way(
    in_process: Callable[[], InProcessTerminal], certificates: Mapping[str, Path]
) -> None:
    api: list[WithRollback] = []

    def with_rollback(terminal: InProcessTerminal) -> Api:
        api.append(WithRollback(terminal.api))
        return api[0]

    visit = Visit(in_process(), certificates, api=with_rollback)
    visit.unlock("rollback")
    with pytest.raises(PosagentError, match="sign_again") as caught:
        visit.laptop.call("rollback")
    assert api[0].done == []
    visit.laptop.call("answer", {"signature": visit.sign("rollback")(caught.value.facts["challenge"])})
    assert visit.laptop.call("rollback")["version"] == "1.0.0"
    assert api[0].done == [({"slot": "b", "version": "1.0.0"}, "console Li Wei")]
    assert visit.code("rollback") == "sign_again"


# a bundle that has expired


@pytest.fixture(scope="module")
def stale(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose 60 days ended 40 days ago."""
    return bundle.build(
        desk.images["2.0.0"],
        version="2.0.0",
        compatible=[HARDWARE],
        keys_dir=desk.keys,
        out=tmp_path_factory.mktemp("stale") / "stale.bundle",
        now_s=int(time.time()) - 100 * 86400,
    )


def refused(laptop: Laptop, source: Path) -> str:
    """The digest that is told when the bundle is refused because its validity has ended."""
    laptop.terminal.ask("update", source=str(source))
    outcome = laptop.terminal.run_to_idle()
    assert outcome["code"] == "repository_expired"
    return str(outcome["detail"].rpartition("the bundle is ")[2])


def test_an_expired_bundle_is_installed_where_an_engineer_signed_for_exactly_it(laptop: Laptop, stale: Path) -> None:
    digest = refused(laptop, stale)
    laptop.unlock()
    challenge = laptop.ask(f"allow {digest}").splitlines()[0]
    assert challenge.endswith(f" update allow {digest}")
    assert "allowed: now ask for the update again" in laptop.ask(laptop.sign(challenge))
    laptop.terminal.boot()  # a power cut takes nothing of it
    laptop.terminal.ask("update", source=str(stale))
    assert laptop.terminal.run_to_idle()["outcome"] == "committed"
    assert not (laptop.terminal.layout.installer / "allowed.json").exists(), "and it is used up"


def test_what_was_signed_for_one_bundle_is_worth_nothing_for_another(laptop: Laptop, stale: Path) -> None:
    refused(laptop, stale)
    laptop.unlock()
    assert "allowed" in laptop.ask(laptop.sign(laptop.ask_json(f"allow {DIGEST}")["challenge"]))
    refused(laptop, stale)


@pytest.mark.parametrize("text", ["allow", "allow x", f"allow {DIGEST} {DIGEST}", f"allow {DIGEST[:-1]}"])
def test_only_a_whole_digest_is_signed_for(laptop: Laptop, text: str) -> None:
    laptop.unlock()
    assert laptop.code(text) == "bad_request"


def test_an_allowance_needs_the_role_and_the_signature(laptop: Laptop, stale: Path) -> None:
    digest = refused(laptop, stale)
    assert laptop.code(f"allow {digest}") == "not_allowed"
    for role in ("look", "support"):
        laptop.unlock(role)
        assert laptop.code(f"allow {digest}") == "not_allowed", role
    laptop.unlock()
    assert laptop.code(f"allow {digest}") == "sign_again"
    refused(laptop, stale)


# what the log has


def test_a_whole_visit_stands_in_the_log_and_is_sealed_at_its_end(laptop: Laptop, desk: Desk) -> None:
    laptop.ask("status")
    laptop.ask("check")
    laptop.unlock("update")
    laptop.ask("check")
    laptop.ask("defer 99")
    laptop.ask("what is this")
    laptop.ask("logout")
    laptop.terminal.settle()
    assert laptop.heard("event", "verb", "role", "name", "code") == [
        ("command", "status", None, None, "ok"),
        ("command", "check", None, None, "not_allowed"),
        ("command", "unlock", None, None, "ok"),
        ("unlock", None, "update", "Li Wei", "ok"),
        ("command", "check", "update", "Li Wei", "begun"),
        ("command", "check", "update", "Li Wei", "fetch_pointer"),
        ("command", "defer", "update", "Li Wei", "bad_request"),
        ("command", "what", "update", "Li Wei", "unknown_verb"),
        ("command", "logout", "update", "Li Wei", "ok"),
        ("session_end", None, "update", "Li Wei", None),
        ("checkpoint", None, None, None, None),
    ]
    (unlocked,) = [record for record in laptop.records if record["event"] == "unlock"]
    assert unlocked["serial"] == 7 and unlocked["key"].startswith("SHA256:")
    found = verdict(laptop)
    assert (found.records, found.sealed) == (11, 10)
    assert troubles(laptop) == []


def test_a_programs_visit_stands_in_the_log_as_a_persons_does(
    in_process: Callable[[], InProcessTerminal], certificates: Mapping[str, Path], tmp_path: Path
) -> None:
    visit = Visit(in_process(), certificates)
    bundle_file = tmp_path / "x.bundle"
    bundle_file.write_bytes(b"x" * 3000)
    visit.code("history")
    visit.unlock()
    visit.laptop.upload(bundle_file)
    visit.laptop.call("history")
    visit.laptop.call("logout")
    visit.line.sleep(5)
    records = visit.terminal.ask("audit")["records"]
    told = [(one["event"], one.get("verb"), one.get("name"), one.get("code")) for one in records]
    assert told == [
        ("command", "machine", None, "ok"),
        ("command", "history", None, "not_allowed"),
        ("command", "unlock", None, "ok"),
        ("unlock", None, "Li Wei", "ok"),
        ("command", "upload", "Li Wei", "begun"),
        ("command", "upload", "Li Wei", "ok"),
        ("command", "history", "Li Wei", "ok"),
        ("session_end", None, "Li Wei", None),
        ("checkpoint", None, None, None),
    ]
    assert records[4]["args"]["size"] == 3000 and records[7]["why"] == "logged out"


def test_a_command_that_ends_with_the_session_is_told_in_the_engineers_name(laptop: Laptop, desk: Desk) -> None:
    laptop.unlock()
    laptop.type("check\r")
    laptop.session.hang_up()
    assert laptop.heard("event", "verb", "name", "code")[-3:] == [
        ("command", "check", "Li Wei", "begun"),
        ("session_end", None, "Li Wei", None),
        ("command", "check", "Li Wei", "given_up"),
    ]


def test_attempts_to_get_in_stand_in_the_log(laptop: Laptop) -> None:
    laptop.unlock("update", "stranger")
    laptop.ask("unlock update")
    laptop.ask("-----BEGIN SSH SIGNATURE-----\rAAAA\r-----END SSH SIGNATURE-----")
    assert laptop.heard("event", "verb", "code") == [
        ("command", "unlock", "ok"),
        ("unlock", None, "unlock_refused"),
        ("command", "unlock", "unlock_wait"),
        ("unlock", None, "unlock_expired"),
    ]


def test_addresses_lose_their_secrets_and_no_signature_is_kept(laptop: Laptop) -> None:
    laptop.unlock()
    laptop.code("update https://user:pass@host/x.bundle?token=geheim")
    text = log_of(laptop).read_text()
    assert "https://host/x.bundle" in text
    assert not any(secret in text for secret in ("pass", "geheim", "BEGIN", "SSHSIG"))


def test_a_stranger_neither_fills_the_disk_nor_pushes_out_what_is_there(laptop: Laptop) -> None:
    laptop.unlock()
    laptop.ask("logout")
    for _ in range(3000):
        laptop.type("status\r")
        laptop.type("update /x\r")
    assert log_of(laptop).stat().st_size < 200_000
    laptop.terminal.time.let_pass(60)
    laptop.type("status\r")
    last = laptop.records[-1]
    assert last["skipped"] > 5900 and last["verb"] == "status", "and it is said how many there were"
    assert ("unlock", "ok") in laptop.heard("event", "code")


def test_a_session_that_is_cut_off_ends_in_the_log_and_is_sealed(laptop: Laptop) -> None:
    laptop.unlock()
    laptop.session.hang_up()
    laptop.terminal.settle()
    assert laptop.heard("event", "why")[-2:] == [("session_end", "hung up"), ("checkpoint", None)]
    verdict(laptop)


def test_a_power_cut_in_a_session_leaves_a_log_that_is_whole(laptop: Laptop) -> None:
    laptop.unlock()
    laptop.terminal.boot()
    laptop.plug_in()
    laptop.unlock()
    laptop.ask("logout")
    laptop.terminal.settle()
    assert verdict(laptop).sealed == verdict(laptop).records - 1


def test_a_log_whose_end_was_cut_off_is_found_by_the_installer(laptop: Laptop) -> None:
    laptop.unlock()
    laptop.ask("logout")
    laptop.terminal.settle()
    assert troubles(laptop) == []
    whole = log_of(laptop).read_bytes()
    log_of(laptop).write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    laptop.terminal.boot()
    laptop.plug_in()
    laptop.unlock()
    laptop.ask("logout")
    laptop.terminal.settle()
    assert troubles(laptop) == ["audit_broken"]
    found = notary.verify(log_of(laptop).read_bytes())
    assert any("did not go on" in what for _, what in found.breaks)
    laptop.terminal.boot()
    laptop.plug_in()
    laptop.unlock()
    laptop.ask("logout")
    laptop.terminal.settle()
    assert troubles(laptop) == [], "sealing goes on, and what was found stays in the log"
    assert notary.verify(log_of(laptop).read_bytes()).breaks == found.breaks


def test_the_engineer_sees_the_log_in_lines(laptop: Laptop) -> None:
    laptop.unlock("look")
    lines = laptop.ask("audit").splitlines()
    assert lines[0].startswith("0 20") and lines[0].endswith(" command unlock role=look ok")
    assert " unlock look Li Wei ok serial=7 key=SHA256:" in f"{lines[1]} {lines[2].strip()}"
    assert json.dumps(laptop.ask_json("audit")["records"]).count("prev") == 0
