"""The live screen in a window of 80 columns and 24 lines, driven by Textual's pilot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from posagent.field import view
from posagent.field.diary import Diary
from posagent.field.screen import Screen
from posagent.sim.inprocess import InProcessTerminal
from tests.conftest import Desk
from tests.field import shop

Keys = Callable[[Screen, Pilot[None]], Awaitable[None]]


@pytest.fixture
def diaries(desk: Desk, in_process: Callable[..., InProcessTerminal]) -> list[Diary]:
    return shop.diaries(in_process(), str(desk.bundles["2.0.0"]))


def shown(app: Screen) -> list[str]:
    """The window, line by line."""
    return ["".join(segment.text for segment in line) for line in app.screen._compositor.render_strips()]


def drive(diaries: list[Diary], keys: Keys, lang: str = "en") -> Screen:
    app = Screen(lambda: [diary.row() for diary in diaries], "2.0.0.bundle 2.0.0", lang)

    async def play() -> None:
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            await keys(app, pilot)

    asyncio.run(play())
    return app


def lines_after(diaries: list[Diary], *keys: str, lang: str = "en") -> list[str]:
    found: list[str] = []

    async def press(app: Screen, pilot: Pilot[None]) -> None:
        for key in keys:
            await pilot.press(key)
        await pilot.pause()
        found.extend(shown(app))

    drive(diaries, press, lang)
    return found


def test_ten_terminals_and_the_chosen_one_fit_the_window(diaries: list[Diary]) -> None:
    lines = lines_after(diaries)
    assert len(lines) == 24 and all(view.width(line) == 80 for line in lines)
    rows = [line for line in lines if line.startswith("ttyUSB")]
    assert [row.split()[1] for row in rows] == [f"pos-{n:04d}" for n in range(10)]
    assert "2 of 10 done, 1 not well" in lines[0]
    (border,) = (at for at, line in enumerate(lines) if line.startswith("─"))
    assert border > 11 and "pos-0000  /dev/ttyUSB0" in lines[border + 1]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (2, ["ready", "20%", "battery 20"]),
        (3, ["install", "%", "80%+"]),
        (5, ["sending", "33%", "3min"]),
        (6, ["1.0.0>2.0.0", "committed"]),
        (8, ["activate", "cable out"]),
        (9, ["rolled back", "7K3F-9QTN"]),
    ],
)
def test_each_row_says_how_it_is(diaries: list[Diary], row: int, told: list[str]) -> None:
    (line,) = (line for line in lines_after(diaries) if line.startswith(f"ttyUSB{row}"))
    assert all(text in line for text in told), line


def test_the_panel_says_what_to_do_about_the_chosen_one(diaries: list[Diary]) -> None:
    panel = "\n".join(lines_after(diaries, "down", "down")[12:])
    assert "pos-0002" in panel and "slot b:" in panel and "Put the terminal on its charger." in panel
    panel = " ".join(" ".join(lines_after(diaries, *["down"] * 9)[12:]).split())
    assert "rolled back - payment program answers: Connection refused [selftest_failed]" in panel


def test_it_speaks_chinese_and_stays_in_its_columns(diaries: list[Diary]) -> None:
    lines = lines_after(diaries, "down", "down", lang="zh")
    assert all(view.width(line) == 80 for line in lines)
    text = "\n".join(lines)
    assert "已完成 2/10" in text and "请将终端接上充电器" in text and "已回退" in text
    assert lines_after(diaries, "l", lang="en")[1].startswith("端口"), "one key changes the language"


def test_it_shows_what_changes_and_who_comes(diaries: list[Diary]) -> None:
    there = diaries[:1]

    async def change(app: Screen, pilot: Pilot[None]) -> None:
        there.append(diaries[5])
        diaries[0].enter("unlocking")
        app.refresh_rows()
        await pilot.pause()
        lines = shown(app)
        assert "unlocking" in lines[2] and lines[3].startswith("ttyUSB5")

    drive(there, change)


def test_nobody_there_yet_is_said() -> None:
    assert any("plug a cable in" in line for line in lines_after([]))


def test_leaving_while_updates_run_takes_a_second_thought(diaries: list[Diary]) -> None:
    left: dict[str, Any] = {}

    async def leave(app: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("q")
        await pilot.pause()
        left["note"], left["open"] = "\n".join(shown(app)), app.is_running
        await pilot.press("q")
        await pilot.pause()

    app = drive(diaries, leave)
    assert "8 still at work: they go on without the laptop" in left["note"] and left["open"]
    assert app.return_code == 0


def test_leaving_when_all_is_done_is_one_key(diaries: list[Diary]) -> None:
    over: list[bool] = []

    async def leave(app: Screen, pilot: Pilot[None]) -> None:
        await pilot.press("q")
        await pilot.pause()
        over.append(app._exit)

    drive([diaries[6], diaries[9]], leave)
    assert over == [True]


@pytest.mark.parametrize("text", ["", "ttyUSB0", "终端一二三四五六七八九", "a" * 100, "宽a宽a宽a"])
@pytest.mark.parametrize("columns", [5, 6, 9])
def test_a_cell_is_exactly_as_wide_as_its_column(text: str, columns: int) -> None:
    assert view.width(view.fit(text, columns)) == columns


def test_plain_lines_come_once_a_change(diaries: list[Diary]) -> None:
    plain, rows = view.Plain("en"), [diary.row() for diary in diaries]
    first = list(plain.lines(rows))
    assert len(first) == 10 and list(plain.lines(rows)) == []
    assert first[2].startswith("pos-0002 /dev/ttyUSB2 1.0.0>2.0.0 ready") and "battery 20 %, needs" in first[2]
    assert first[9].endswith("7K3F-9QTN - payment program answers: Connection refused")
    diaries[8].plugged("/dev/ttyUSB4")
    (line,) = plain.lines([diary.row() for diary in diaries])
    assert line.startswith("pos-0008 /dev/ttyUSB4")
