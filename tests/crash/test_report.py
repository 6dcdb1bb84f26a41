"""The pictures and tables of an exploration say what its numbers say, and nothing is left out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from posagent.crash import report

SVG = "{http://www.w3.org/2000/svg}"
End = tuple[str, int]


def operation(what: str, stage: str, *ends: End) -> dict[str, Any]:
    after = [{"outcomes": kinds, "boots": boots} for kinds, boots in ends]
    return {"operation": what, "stage": stage, "after": after}


def exploration(coverage: Iterable[dict[str, Any]], *replays: str, violations: int | None = None) -> dict[str, Any]:
    """As campaign.numbers has it, with a violation for each replay."""
    listed = list(coverage)
    found = [{"oracle": "once", "detail": "ends <twice> & again", "replay": replay} for replay in replays]
    return {
        "operations": len(listed),
        "cut_points": 4711,
        "executions": 12,
        "states": 7,
        "cuts_deep": 1,
        "fixpoint": False,
        "violations": len(found) if violations is None else violations,
        "seconds": 0.5,
        "coverage": listed,
        "found": found,
    }


def replay(path: str) -> str:
    return f"posagent-crash replay --scenario good --profile raw '{path}'"


def result(**scenarios: dict[str, Any]) -> dict[str, Any]:
    named = {name.replace("__", "/").replace("_", "-"): one for name, one in scenarios.items()}
    return {"scenarios": named, "totals": {"executions": 12, "explorations": len(named), "violations": 0}}


SMALL = exploration(
    [
        operation("env write 1 a {'a': 0, 'b': 0}", "bootloader", ("committed", 2)),
        operation("env sync 1", "bootloader", ("committed", 2), ("committed", 3)),
        operation("make_dir /data", "agent starts", ("committed", 3)),
        operation("write /data/agent/journal 0+0", "agent starts", ("committed", 3)),
        operation("write /data/spool/e7.part 0+8192", "download", ("committed", 1), ("failed", 2)),
        operation("sync_dir /data/installer/trust", "verify"),
        operation("sync_dir /data/installer", "install", ("rolled_back", 1)),
        operation("pwrite b 0+4096", "install", ("committed, rolled_back", 4)),
    ]
)


def drawn(scenario: dict[str, Any], name: str = "") -> ElementTree.Element:
    return ElementTree.fromstring(report.coverage_svg(scenario, name))


def columns(picture: ElementTree.Element) -> list[ElementTree.Element]:
    return [group for group in picture.iter(f"{SVG}g") if group.get("class") == "cut"]


def title(column: ElementTree.Element) -> str:
    return column.findtext(f"{SVG}title") or ""


def fills(column: ElementTree.Element) -> list[str]:
    return [rect.get("fill", "") for rect in column.iter(f"{SVG}rect") if rect.get("class") != "hit"]


def words(picture: ElementTree.Element) -> str:
    return "\n".join(text.text or "" for text in picture.iter(f"{SVG}text"))


def cells(text: str) -> dict[tuple[str, str], str]:
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    head, _, *body = rows
    return {(row[0], head[at].removeprefix("before ")): row[at] for row in body for at in range(1, len(row))}


@pytest.mark.parametrize(
    ("what", "touched"),
    [
        ("write /data/agent/journal 4096+123", "journal"),
        ("sync_dir /data/agent", "journal"),
        ("make_dir /data", "journal"),
        ("rename /data/spool/e.part /data/spool/e.bundle", "spool"),
        ("make_dir /data/spool", "spool"),
        ("sync /data/installer/slots.json.new", "slot records and floor"),
        ("unlink /data/installer/trial-b", "slot records and floor"),
        ("sync_dir /data/installer/trust", "trust record"),
        ("flush b", "slot"),
        ("pwrite b 0+4096", "slot"),
        ("env sync 0", "boot environment"),
        ("write /data/agentless 0+1", "other files"),
        ("", "other files"),
    ],
)
def test_an_operation_belongs_to_what_it_touches(what: str, touched: str) -> None:
    assert report.device(what) == touched


def test_the_table_says_what_the_numbers_say() -> None:
    found = cells(report.table(SMALL))
    said = {place: phrase for place, phrase in found.items() if phrase != "-"}
    assert said == {
        ("bootloader", "boot environment"): "committed (2–3 boots)",
        ("agent starts", "journal"): "committed (3 boots)",
        ("download", "spool"): "committed (1 boot); failed (2 boots)",
        ("verify", "trust record"): "not explored",
        ("install", "slot records and floor"): "rolled back (1 boot)",
        ("install", "slot"): "committed, then rolled back (4 boots)",
    }
    assert [row for row, column in found if column == "journal"] == [
        "bootloader",
        "agent starts",
        "download",
        "verify",
        "install",
    ]
    assert {column for _, column in found} == set(report.DEVICES)


def test_the_table_says_that_some_of_the_cuts_were_not_explored() -> None:
    two = [operation("flush b", "install", ("committed", 2)), operation("pwrite b 0+1", "install")]
    assert cells(report.table(exploration(two)))["install", "slot"] == "committed (2 boots); some not explored"


def test_what_is_not_known_gets_a_column_and_a_row() -> None:
    found = cells(report.table(exploration([operation("write /etc/x|y 0+1", "a|<b>", ("none", 1))])))
    assert found["a\\|&lt;b&gt;", "other files"] == "no outcome (1 boot)"


def test_a_violation_is_in_its_cell_and_the_others_are_counted() -> None:
    elsewhere = replay("cut=2 choices=0.1 choices=-"), replay("choices=0"), replay("cut=99 choices=-")
    scenario = exploration(SMALL["coverage"], replay("cut=8 choices=0.0.0 choices=1"), *elsewhere, violations=30)
    text = report.table(scenario)
    assert cells(text)["install", "slot"].startswith("VIOLATION of once; ")
    assert text.count("VIOLATION") == 1
    assert "**29 violations are not in this table.**" in text
    assert "30 violations, 29 of them at no cut shown." in words(drawn(scenario))


def test_every_operation_is_drawn_once_in_order() -> None:
    shown = [title(column) for column in columns(drawn(SMALL))]
    assert len(shown) == len(SMALL["coverage"])
    for number, (text, one) in enumerate(zip(shown, SMALL["coverage"], strict=True), 1):
        assert text.startswith(f"{number}. {one['stage']}: {one['operation']} (")
    assert shown[1].endswith("(boot environment): committed (2–3 boots)")


def test_a_long_update_is_wrapped_and_nothing_is_lost() -> None:
    long = exploration(operation(f"write /data/agent/journal {at}+1", "install", ("committed", 2)) for at in range(999))
    picture = drawn(long)
    assert len({title(column) for column in columns(picture)}) == 999
    bands = [band for band in picture.iter(f"{SVG}rect") if band.get("class") == "band"]
    assert len(bands) > 5
    assert all(int(band.get("x", "")) + int(band.get("width", "")) <= report.WIDTH for band in bands)
    assert max(int(band.get("y", "")) + int(band.get("height", "")) for band in bands) < int(picture.get("height", ""))


def test_the_pattern_tells_the_end() -> None:
    scenario = exploration(SMALL["coverage"], replay("cut=1 choices=- choices=-"))
    kinds = [fills(column)[-1].removeprefix("url(#k-").removesuffix(")") for column in columns(drawn(scenario))]
    assert kinds == [
        "violation",
        "committed",
        "committed",
        "committed",
        "mixed",
        "unexplored",
        "rolled_back",
        "rolled_back",
    ]


def test_what_only_some_fates_need_is_outlined_only() -> None:
    always, sometimes = columns(drawn(SMALL))[:2]
    assert fills(always) == ["url(#k-committed)"]
    outline, filled = [rect for rect in sometimes.iter(f"{SVG}rect") if rect.get("class") != "hit"]
    assert outline.get("fill") == "#fff"
    assert float(outline.get("height", "")) / float(filled.get("height", "")) == pytest.approx(3 / 2, abs=0.01)


def test_every_pattern_that_is_used_exists_and_is_explained() -> None:
    used = exploration(
        operation("flush b", "install", *ends)
        for ends in ([("committed", 1)], [("failed", 1)], [("cancelled", 1)], [("none", 1)], [])
    )
    text = report.coverage_svg(used, "x/raw")
    for kind in ("committed", "failed", "cancelled", "other", "unexplored", "violation"):
        assert f'id="kx-raw-{kind}"' in text
        assert report.KINDS[kind][2] in words(drawn(used))
    assert "1 cuts were not explored" in text


def test_colours_are_not_all_there_is() -> None:
    looks = [path or colour for colour, path, _ in report.KINDS.values()]
    assert len(set(looks)) == len(looks)
    assert sum(not path for _, path, _ in report.KINDS.values()) == 2  # a light one and black


@pytest.mark.parametrize("nasty", ["</title><script>", "a & b", "\x00\x1b\udcff", "\"'"])
def test_whatever_an_operation_is_called_the_picture_stays_well_formed(nasty: str) -> None:
    scenario = exploration([operation(f"write /x{nasty} 0+1", nasty, (nasty, 1))], replay(f"cut=1 choices=- {nasty}'"))
    picture = drawn(scenario, nasty)
    assert len(columns(picture)) == 1
    assert not list(picture.iter(f"{SVG}script"))
    assert "ends <twice> & again" in title(columns(picture)[0])
    page = report.html(result(good__raw=scenario) | {"totals": {nasty: nasty}})
    assert "<script>" not in page
    assert "ends &lt;twice&gt; &amp; again" in page


def test_an_update_without_operations_is_drawn_all_the_same() -> None:
    empty = exploration([])
    assert columns(drawn(empty)) == []
    assert report.table(empty).count("\n") == 2


def test_the_page_for_a_browser_shows_every_scenario_and_the_totals() -> None:
    bad = exploration(SMALL["coverage"], replay("cut=1 choices=- choices=-"), violations=21)
    text = report.html(result(good__raw=SMALL, panic__raw=bad))
    assert text.count("<svg ") == 2
    assert "<td>good/raw</td><td>8</td><td>4711</td>" in text
    assert text.count("<tr class=bad><td>panic/raw</td>") == 1
    assert "20 more, not kept." in text
    assert "cut=1 choices=- choices=-" in text
    assert "<td>explorations</td><td>2</td>" in text
    assert text.count("http") == text.count("http://www.w3.org/2000/svg"), "needs nothing from elsewhere"


def test_both_pictures_are_written(tmp_path: Path) -> None:
    report.write(result(a__raw=exploration([]), good__raw=SMALL), tmp_path / "build")
    assert "<h2>Maps</h2>" in (tmp_path / "build/crash.html").read_text(encoding="utf-8")
    picture = ElementTree.fromstring((tmp_path / "build/power-loss.svg").read_text(encoding="utf-8"))
    assert len(columns(picture)) == len(SMALL["coverage"])


def test_nothing_explored_is_written_as_such(tmp_path: Path) -> None:
    report.write(result(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["crash.html"]


OLD = f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n"


def test_the_page_gets_its_block_anew_and_only_that() -> None:
    both = result(panic__raw=SMALL, good__raw=SMALL, good__emmc_4k=SMALL, hang__raw=SMALL)
    new = report.page(OLD, both)
    assert new.startswith(f"# Before\n\n{report.BEGIN}\n")
    assert new.endswith(f"\n{report.END}\n\nafter\n")
    assert "\nold\n" not in new
    assert report.page(new, both) == new
    heads = [line for line in new.splitlines() if line.startswith("###")]
    assert heads == [
        "### `good`: a good new version (on `raw`, `emmc-4k`)",
        "### `panic`: a new version whose kernel panics (on `raw`)",
    ]


def test_devices_that_differ_have_tables_of_their_own() -> None:
    other = exploration([operation("flush b", "install", ("failed", 2))])
    assert report.page(OLD, result(good__raw=SMALL, good__emmc_4k=other)).count("###") == 2


@pytest.mark.parametrize("old", ["no marks", report.BEGIN, f"{report.END} {report.BEGIN}"])
def test_a_page_without_the_marks_is_refused(old: str) -> None:
    with pytest.raises(ValueError, match="generated: crash table"):
        report.page(old, result(good__raw=SMALL))


def test_a_run_without_the_shown_scenarios_is_refused() -> None:
    with pytest.raises(ValueError, match="a run of good"):
        report.page(OLD, result(hang__raw=SMALL))


def test_the_real_page_has_its_block() -> None:
    text = (Path(__file__).parents[2] / "docs/power-loss.md").read_text(encoding="utf-8")
    assert report.page(text, result(good__raw=SMALL)).count(report.BEGIN) == 1
