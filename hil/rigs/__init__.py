"""Rigs: each makes hil.terminal.Terminal true for one kind of terminal."""
