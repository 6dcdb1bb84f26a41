"""Draws docs/field.svg: the live screen of posagent-field at ten terminals, in a window of 80 columns and 24 lines.

The statuses are those of a simulated terminal that is updated for it. `make docs` runs this; the picture depends on the
installed version of Textual, so that no test compares it.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from posagent.field.diary import Diary  # noqa: E402
from posagent.field.screen import Screen  # noqa: E402
from posagent.release import bundle, keys  # noqa: E402
from posagent.sim import image, layout  # noqa: E402
from posagent.sim.inprocess import InProcessTerminal  # noqa: E402
from posagent.sim.layout import Settings  # noqa: E402
from tests.field import shop  # noqa: E402


def _diaries(folder: Path) -> list[Diary]:
    keys.init(folder / "keys")
    made = layout.create(folder / "t", image=None, keys_dir=folder / "keys", settings=Settings())
    terminal = InProcessTerminal(made)
    terminal.boot()
    offered = bundle.build(
        image.build(folder / "2.0.0.ext4", "2.0.0"),
        version="2.0.0",
        compatible=[Settings().hardware],
        keys_dir=folder / "keys",
        out=folder / "2.0.0.bundle",
    )
    diaries = shop.diaries(terminal, str(offered))
    terminal.time.end()
    return diaries


async def _picture(diaries: list[Diary]) -> str:
    app = Screen(lambda: [diary.row() for diary in diaries], "2.0.0.bundle 2.0.0", "en")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "down")
        await pilot.pause()
        return app.export_screenshot(title="posagent-field")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pos-") as folder:
        picture = asyncio.run(_picture(_diaries(Path(folder))))
    fonts = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # they would be fetched from elsewhere
    lines = (line.rstrip() for line in fonts.sub("", picture).splitlines())
    (ROOT / "docs" / "field.svg").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
