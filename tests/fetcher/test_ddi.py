"""What hawkBit says, read with suspicion; and what is sent to whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posagent.agent import mailbox
from posagent.core.errors import FetchError
from posagent.core.fleet import Heard
from posagent.fetcher.ddi import Ddi, deployment_of, sleep_of
from posagent.fetcher.http import Credentials, Reply

BASE = "https://fleet.test:8443/DEFAULT"
ROOT = f"{BASE}/controller/v1/pos%201"
POLLING = {"config": {"polling": {"sleep": "00:05:00"}}}
ARTIFACT = {
    "filename": "2.0.0.bundle",
    "hashes": {"sha256": "a" * 64, "sha1": "b"},
    "size": 7,
    "_links": {"download": {"href": "https://cdn.test/x"}},
}


def deployment(**more: Any) -> dict[str, Any]:
    told = {"download": "forced", "update": "forced", "chunks": [{"version": "2.0.0", "artifacts": [ARTIFACT]}]}
    return {"id": "12", "deployment": {**told, **more}}


class Script:
    """fetcher.ddi.Caller: answers by address; what was asked stands in `asked`."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers, self.asked = answers, list[tuple[str, str, Any]]()

    def call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Reply:
        self.asked.append((method, url, body))
        found = self._answers.get(url, 404)
        if isinstance(found, int):
            return Reply(status=found, body=b"", retry_after_s=9)
        return Reply(status=200, body=found if isinstance(found, bytes) else json.dumps(found).encode())


def exchange(answers: Mapping[str, Any], **args: Any) -> tuple[list[dict[str, Any]], Script]:
    script = Script(answers)
    return [dict(one) for one in Ddi(script, BASE, "pos 1").exchange(args)], script


def link(path: str) -> dict[str, str]:
    return {"href": f"http://elsewhere.test/DEFAULT/controller/v1/pos 1/{path}"}


def test_a_link_is_followed_on_the_server_that_is_configured_and_nowhere_else() -> None:
    root = {**POLLING, "_links": {"deploymentBase": link("deploymentBase/12?c=-2129030598")}}
    there = f"{ROOT}/deploymentBase/12?c=-2129030598"
    (last,), script = exchange({ROOT: root, there: deployment()}, known=True)
    assert [url for _, url, _ in script.asked] == [ROOT, there]
    heard = mailbox.read(last)
    assert isinstance(heard, Heard) and heard.sleep_s == 300 and heard.deployment is not None
    (artifact,) = heard.deployment.artifacts
    assert (artifact.url, artifact.length, heard.deployment.action) == ("https://cdn.test/x", 7, "12")


@pytest.mark.parametrize(
    "path", ["", "deploymentBase/", "deploymentBase/../../admin", "deploymentBase/1 2", "other/12"]
)
def test_a_link_that_leads_elsewhere_is_not_followed(path: str) -> None:
    root = {**POLLING, "_links": {"deploymentBase": link(path)}}
    if "/deploymentBase/" not in link(path)["href"]:
        (last,), _ = exchange({ROOT: root}, known=True)
        assert last["result"]["deployment"] is None
    else:
        with pytest.raises(FetchError, match="leads nowhere"):
            exchange({ROOT: root}, known=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00:30", 30),
        ("23:59:59", 86399),
        ("P1D", 86400),
        ("PT48H", 172800),
        ("P2DT3H4M5.5S", 183845),
        ("PT10M", 600),
    ],
)
def test_how_often_it_wants_to_be_asked(text: str, seconds: float) -> None:
    assert sleep_of({"config": {"polling": {"sleep": text}}}) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "1:2:3", "00:60:00", "soon", None, 5])
def test_what_is_no_time(text: Any) -> None:
    with pytest.raises(FetchError):
        sleep_of({"config": {"polling": {"sleep": text}}})


@pytest.mark.parametrize(
    "more",
    [
        {"download": "perhaps"},
        {"chunks": 3},
        {"chunks": [{"version": "2.0.0", "artifacts": [{**ARTIFACT, "size": -1}]}]},
        {"chunks": [{"version": "2.0.0", "artifacts": [{**ARTIFACT, "hashes": {"sha256": "../x"}}]}]},
        {"chunks": [{"version": "2.0.0", "artifacts": [ARTIFACT] * 9}]},
        {"chunks": [{"version": "2\n0", "artifacts": [ARTIFACT]}]},
        {"maintenanceWindow": "sometimes"},
    ],
)
def test_a_deployment_that_makes_no_sense(more: dict[str, Any]) -> None:
    with pytest.raises(FetchError) as caught:
        deployment_of(deployment(**more), "deployment")
    assert caught.value.code == "fleet_answer"


def test_files_that_are_no_bundles_do_not_count() -> None:
    other = {**ARTIFACT, "filename": "release-notes.pdf"}
    found = deployment_of(
        deployment(chunks=[{"version": "7", "artifacts": [other]}, {"version": "2.0.0", "artifacts": [ARTIFACT]}]),
        "deployment",
    )
    assert [one.name for one in found.artifacts] == ["2.0.0.bundle"] and found.version == "2.0.0"


def test_the_operating_system_comes_first_whatever_the_order_in_which_it_is_told() -> None:
    chunks = [
        {"part": part, "version": version, "artifacts": [{**ARTIFACT, "filename": f"{version}.bundle"}]}
        for part, version in (("bApp", "7"), ("os", "2.0.0"))
    ]
    found = deployment_of(deployment(chunks=chunks), "deployment")
    assert [one.name for one in found.artifacts] == ["2.0.0.bundle", "7.bundle"] and found.version == "2.0.0"


def letter(kind: str = "close") -> dict[str, Any]:
    return {"key": "12/close", "kind": kind, "action": "12", "body": {"status": {}}}


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("close", "deploymentBase/12/feedback"),
        ("going", "deploymentBase/12/feedback"),
        ("cancel", "cancelAction/12/feedback"),
        ("consent", "confirmationBase/12/feedback"),
    ],
)
def test_where_a_letter_goes(kind: str, address: str) -> None:
    messages, script = exchange({ROOT: POLLING, f"{ROOT}/{address}": {}}, letters=[letter(kind)], known=True)
    assert script.asked[0][:2] == ("POST", f"{ROOT}/{address}")
    assert messages[0] == {"progress": {"acknowledged": "12/close"}}


@pytest.mark.parametrize(("status", "word"), [(200, "acknowledged"), (410, "acknowledged"), (404, "acknowledged")])
def test_what_needs_not_be_sent_again(status: int, word: str) -> None:
    address = f"{ROOT}/deploymentBase/12/feedback"
    answers = {ROOT: POLLING, address: {} if status == 200 else status}
    messages, _ = exchange(answers, letters=[letter()], known=True)
    assert word in messages[0]["progress"]


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 401])
def test_what_is_tried_again(status: int) -> None:
    with pytest.raises(FetchError) as caught:
        exchange({ROOT: POLLING, f"{ROOT}/deploymentBase/12/feedback": status}, letters=[letter()])
    if status in (429, 503):
        assert caught.value.facts["retry_after_s"] == 9
    assert caught.value.code == ("fleet_credentials" if status == 401 else "fetch_status")


def test_a_quota_that_is_used_up_is_not_asked_again() -> None:
    class Full(Script):
        def call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Reply:
            if method == "POST":
                return Reply(status=429, body=b'{"errorCode":"hawkbit.server.error.quota.tooManyEntries"}')
            return super().call(method, url, body)

    messages = list(Ddi(Full({ROOT: POLLING}), BASE, "pos 1").exchange({"letters": [letter()], "known": True}))
    assert messages[0]["progress"] == {"refused": "12/close", "why": "quota.tooManyEntries"}


def test_attributes_are_sent_when_asked_for_or_not_known() -> None:
    address = f"{ROOT}/configData"
    wants = {**POLLING, "_links": {"configData": link("configData")}}
    for root, known, sent in ((POLLING, True, 0), (POLLING, False, 1), (wants, True, 1)):
        _, script = exchange({ROOT: root, address: {}}, attributes={"version": "1"}, known=known)
        assert sum(method == "PUT" for method, _, _ in script.asked) == sent


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "_links",
                    "config",
                    "polling",
                    "sleep",
                    "deploymentBase",
                    "cancelAction",
                    "confirmationBase",
                    "configData",
                    "href",
                    "id",
                    "deployment",
                    "chunks",
                    "artifacts",
                    "download",
                    "update",
                    "stopId",
                    "hashes",
                    "sha256",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300)
@given(root=json_values, inner=json_values)
def test_nothing_that_it_says_is_more_than_an_error(root: Any, inner: Any) -> None:
    class Anything(Script):
        def call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Reply:
            return Reply(status=200, body=json.dumps(root if url == ROOT else inner).encode())

    try:
        for message in Ddi(Anything({}), BASE, "pos 1").exchange({"attributes": {}}):
            mailbox.read(message)
    except FetchError:
        pass


def test_credentials_go_to_their_server_and_to_no_other() -> None:
    own = Credentials(url=BASE, authorization="TargetToken secret")
    assert own.header(f"{ROOT}/x") == {"Authorization": "TargetToken secret"}
    for url in (
        "https://fleet.test/x",
        "http://fleet.test:8443/x",
        "https://cdn.test:8443/x",
        "https://fleet.test:8443.evil/",
    ):
        assert own.header(url) == {}
