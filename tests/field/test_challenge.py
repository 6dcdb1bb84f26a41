"""What a terminal wants signed is read first: nothing else than what was asked of it is signed."""

from __future__ import annotations

import pytest

from posagent.core.errors import PosagentError
from posagent.field import challenge

UNLOCK = "posagent-console-v1 pos-1 7d3e 12 00ff rollback"
GO_BACK = f"{UNLOCK} rollback b 1.0.0"


def test_the_action_is_all_that_stands_behind_the_role() -> None:
    assert challenge.checked(UNLOCK, terminal="pos-1", role="rollback").action == ""
    found = challenge.checked(GO_BACK, terminal="pos-1", role="rollback", verb="rollback")
    assert (found.line, found.action) == (GO_BACK, "rollback b 1.0.0")
    spaced = GO_BACK.replace("pos-1", "shop 1 2")
    assert challenge.checked(spaced, terminal="shop 1 2", role="rollback", verb="rollback").action == found.action


@pytest.mark.parametrize(
    ("line", "how"),
    [
        (GO_BACK, {"terminal": "pos-1", "role": "rollback"}),
        (UNLOCK, {"terminal": "pos-1", "role": "rollback", "verb": "rollback"}),
        (UNLOCK, {"terminal": "pos-2", "role": "rollback"}),
        (UNLOCK, {"terminal": "pos-1", "role": "update"}),
        (GO_BACK, {"terminal": "pos-1", "role": "rollback", "verb": "allow"}),
        (GO_BACK + "\n", {"terminal": "pos-1", "role": "rollback", "verb": "rollback"}),
        (GO_BACK.replace("v1", "v2"), {"terminal": "pos-1", "role": "rollback", "verb": "rollback"}),
        ("posagent-console-v1 pos-1", {"terminal": "pos-1", "role": "rollback"}),
        ("posagent-console-v1 pos-1   00ff rollback", {"terminal": "pos-1", "role": "rollback"}),
        ("", {"terminal": "", "role": ""}),
    ],
    ids=[
        *("unlocking that does more", "an action that is none", "another terminal", "another role", "another verb"),
        *("two lines", "another version", "cut short", "gaps", "nothing"),
    ],
)
def test_what_was_not_asked_for_is_not_to_be_signed(line: str, how: dict[str, str]) -> None:
    with pytest.raises(PosagentError, match="challenge_differs"):
        challenge.checked(line, **how)
