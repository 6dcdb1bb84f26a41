"""The live screen: a table of the terminals, a panel about the chosen one. Textual draws it.

Never: anything that decides. It looks at the rows and asks to leave; the work is done by the crew's threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar, TextIO, cast

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.driver import Driver
from textual.widgets import DataTable, Footer, Static

from posagent.field import view
from posagent.field.diary import GOOD, Row
from posagent.field.window import Pane
from posagent.field.words import say, word

REFRESH_S = 0.5
LAST = "waits"


def _driver() -> type[Driver] | None:
    """Textual's own, on a window that may go; None where it knows better (Windows)."""
    if os.name != "posix":
        return None
    from textual.drivers.linux_driver import LinuxDriver

    class PaneDriver(LinuxDriver):
        def __init__(self, *words: Any, **more: Any) -> None:
            super().__init__(*words, **more)
            self._file: Any = Pane(cast(TextIO, self._file))

    return PaneDriver


class Screen(App[None]):
    """`rows` gives the terminals as they are now; the screen ends when its window is `gone`."""

    CSS = """
    #head { height: 1; background: $primary; color: $text; padding: 0 1; text-style: bold; }
    DataTable { height: 1fr; min-height: 4; scrollbar-size-vertical: 1; }
    #panel { height: auto; max-height: 11; border-top: solid $primary; padding: 0 1; }
    #note { height: auto; background: $warning; color: $text; padding: 0 1; display: none; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "leave 退出"),
        Binding("ctrl+c", "leave", show=False, priority=True),
        Binding("l", "language", "中文 English"),
    ]

    def __init__(
        self, rows: Callable[[], list[Row]], title: str, lang: str, gone: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(driver_class=_driver())
        self._rows, self._gone = rows, gone
        self._name = title
        self._lang = lang
        self._asked = False
        self._shown: dict[str, dict[str, str]] = {}
        self._known: dict[str, Row] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        table: DataTable[Text] = DataTable(cursor_type="row", cell_padding=0, zebra_stripes=True)
        yield table
        yield Vertical(Static(id="about", markup=False), id="panel")
        yield Static(id="note", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self._columns()
        self.refresh_rows()
        self.set_interval(REFRESH_S, self.refresh_rows)

    @property
    def table(self) -> DataTable[Text]:
        return self.query_one(DataTable)

    def _columns(self) -> None:
        self.table.clear(columns=True)
        self._shown.clear()
        for name, columns in view.COLUMNS.items():
            self.table.add_column(word(name, self._lang), key=name, width=None if name == LAST else columns)

    def refresh_rows(self) -> None:
        """Draw what changed, and nothing else."""
        if self._gone():
            self.exit()
            return
        rows = self._rows()
        for row in rows:
            self._row(row)
        self._known = {row.terminal: row for row in rows}
        self.query_one("#head", Static).update(f"{self._name}  {view.headline(rows, self._lang)}")
        self._panel()

    def _row(self, row: Row) -> None:
        told = {name: self._fit(name, text) for name, text in view.cells(row, self._lang).items()}
        before = self._shown.get(row.terminal)
        if before is None:
            self.table.add_row(*(self._cell(row, text) for text in told.values()), key=row.terminal)
        else:
            for name, text in told.items():
                if text != before[name]:
                    self.table.update_cell(row.terminal, name, self._cell(row, text), update_width=name == LAST)
        self._shown[row.terminal] = told

    def _fit(self, name: str, text: str) -> str:
        """The last column has what the window leaves, less the scrollbar."""
        if name != LAST:
            return view.fit(text, view.COLUMNS[name] - 1) + " "
        others = sum(columns for column, columns in view.COLUMNS.items() if column != LAST)
        return view.fit(text, max(self.size.width - others - 1, view.COLUMNS[LAST] - 2))

    def _cell(self, row: Row, text: str) -> Text:
        if row.ended:
            return Text(text, style="green" if row.ending in GOOD else "bold red")
        return Text(text, style="yellow" if row.pulled else "")

    def _panel(self) -> None:
        chosen = self._chosen()
        lines = view.panel(chosen, self._lang) if chosen else [say("nobody", self._lang)]
        self.query_one("#about", Static).update("\n".join(lines))

    def _chosen(self) -> Row | None:
        if not self.table.row_count:
            return None
        key = self.table.coordinate_to_cell_key(self.table.cursor_coordinate).row_key.value
        return self._known.get(key or "")

    def on_data_table_row_highlighted(self) -> None:
        self._panel()

    # keys

    def action_leave(self) -> None:
        """At once when all is done; else the second time."""
        still = sum(not row.ended for row in self._rows())
        if not still or self._asked:
            self.exit()
            return
        self._asked = True
        note = self.query_one("#note", Static)
        note.update(say("still", self._lang, still))
        note.display = True

    def action_language(self) -> None:
        self._lang = "en" if self._lang == "zh" else "zh"
        self._columns()
        self.refresh_rows()
