"""The visit report: signed, checked, printed; what was changed afterwards is found."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path
from typing import Any

import pytest

from posagent.core.errors import PosagentError
from posagent.field import page, report, signing
from posagent.field.diary import Diary
from posagent.field.signing import Engineer
from posagent.field.words import WORDS
from tests.conftest import Desk


def a_report(engineer: Engineer, now: float) -> dict[str, Any]:
    well = Diary("pos-1", "/dev/ttyUSB0", lambda: now - 60, lambda: None)
    well.versions(before="1.0.0", after="2.0.0", wanted="2.0.0")
    well.end("committed")
    ill = Diary("pos-<2>", "/dev/ttyUSB1", lambda: now - 50, lambda: None)
    ill.versions(before="1.0.0", after="1.0.0", wanted="2.0.0")
    ill.problem(PosagentError("selftest_failed", "<script>alert(1)</script>"))
    ill.support(code="7K3F-9QTN", file="pos-2-support.bin")
    ill.end("rolled_back", "selftest_failed", "<script>alert(1)</script>")
    left = Diary("pos-3", "COM3", lambda: now - 40, lambda: None)
    return report.made(
        engineer=engineer,
        role="update",
        bundle={"file": "2.0.0.bundle", "version": "2.0.0", "bytes": 1000, "sha256": "ab" * 32},
        started_at=now - 60,
        ended_at=now,
        terminals=[one.record() for one in (well, ill, left)],
    )


@pytest.fixture
def written(engineer: Engineer, tmp_path: Path) -> report.Files:
    import time

    now = time.time()
    files = report.Files(tmp_path / "visits", now)
    files.close(a_report(engineer, now), engineer)
    return files


def test_it_is_signed_and_says_who_was_there(written: report.Files, desk: Desk, engineer: Engineer) -> None:
    found, signed = report.verify(written.json, desk.keys / "engineer-ca.pub")
    assert found["summary"] == {"committed": 1, "rolled_back": 1, "left": 1}
    assert found["engineer"]["name"] == signed.by.name == "Li Wei"
    assert signed.authority == engineer.certificate.authority


def test_a_changed_outcome_is_found(written: report.Files, desk: Desk) -> None:
    written.json.write_text(written.json.read_text().replace("rolled_back", "committed"))
    with pytest.raises(PosagentError) as caught:
        report.verify(written.json, desk.keys / "engineer-ca.pub")
    assert caught.value.code == "report_altered"


def test_a_report_in_anothers_name_is_found(written: report.Files, desk: Desk, engineer: Engineer) -> None:
    data = written.json.read_text().replace("Li Wei", "Wang Fang").encode()
    written.json.write_bytes(data)
    written.signature.write_text(engineer.sign(data, signing.VISIT))
    with pytest.raises(PosagentError, match="it names Wang Fang, and Li Wei signed it"):
        report.verify(written.json, desk.keys / "engineer-ca.pub")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"[" * 100_000,
        b'{"format": "posagent-visit-1"}',
        b'{"format": "posagent-visit-2"}',
        b'{"format": "posagent-visit-1", "engineer": 3, "terminals": [], "bundle": null}',
    ],
)
def test_what_is_no_report_is_told(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "visit.json").write_bytes(damage)
    with pytest.raises(PosagentError) as caught:
        report.verify(tmp_path / "visit.json", None)
    assert caught.value.code == "report_altered"


def test_times_that_no_calendar_knows_are_told(written: report.Files) -> None:
    changed = json.loads(written.json.read_text()) | {"ended_at": 1e300}
    written.json.write_text(json.dumps(changed))
    with pytest.raises(PosagentError) as caught:
        report.verify(written.json, None)
    assert caught.value.code == "report_altered"


class _Page(html.parser.HTMLParser):
    """Tags that were opened and not closed, text, and anything that would load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href", "onclick"} & {name for name, _ in attrs}
        self.seen.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_needs_nothing_and_lets_nothing_through(written: report.Files) -> None:
    found = _Page()
    found.feed(written.html.read_text("utf-8"))
    found.close()
    assert found.open == []
    assert not {"script", "img", "link", "iframe"} & found.seen
    assert "<script>alert(1)</script>" in found.text and "7K3F-9QTN" in found.text
    assert all(f"{english} / {chinese}" in found.text for english, chinese in (WORDS["report"], WORDS["rolled_back"]))
    assert "not signed" not in found.text


def test_without_a_signature_the_page_says_so(engineer: Engineer, tmp_path: Path) -> None:
    found = a_report(engineer, 1_800_000_000.0)
    assert "not signed" in page.of(found, b"", None)


def test_a_key_that_is_gone_in_the_end_still_leaves_a_page(
    engineer: Engineer, certificate: Path, tmp_path: Path
) -> None:
    import shutil

    for name in ("engineer", "engineer-cert.pub"):
        shutil.copy(certificate.with_name(name), tmp_path / name)
    mine = Engineer(tmp_path / "engineer")
    (tmp_path / "engineer").unlink()
    files = report.Files(tmp_path / "visits", 1_800_000_000.0)
    with pytest.raises(PosagentError) as caught:
        files.close(a_report(mine, 1_800_000_000.0), mine)
    assert caught.value.code == "engineer_key"
    assert files.json.exists() and "not signed" in files.html.read_text("utf-8") and not files.signature.exists()
