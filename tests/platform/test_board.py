"""What a board tells of its users."""

from __future__ import annotations

from posagent.platform.board import LinuxBoard


def test_a_groups_members_are_those_it_lists_and_those_whose_first_group_it_is() -> None:
    board = LinuxBoard()
    assert "root" in board.members("root")
    assert board.members("no-such-group") == set()
