"""core.ports.Trees on a medium that loses power: whole directories of files.

Rules: what is in a directory goes one by one, and may come back with a cut until the directory itself is gone, which is
durable, because the port says so. Owners and modes have no fate of their own.
"""

from __future__ import annotations

from posagent.crash.files import MediumFiles


class MediumTrees(MediumFiles):
    """MediumFiles with directories that can be removed."""

    def entries(self, path: str) -> list[tuple[str, str]]:
        return [(name, "dir" if f"{path}/{name}" in self._dirs else "file") for name in self.names(path)]

    def remove_tree(self, path: str) -> None:
        for name, kind in self.entries(path):
            if kind == "dir":
                self.remove_tree(f"{path}/{name}")
            else:
                self.unlink(f"{path}/{name}")
        if path in self._dirs:
            self._medium.step(f"remove_tree {path}")
            del self._dirs[path]

    def like(self, source: str, target: str) -> None:
        self._medium.need_power()

    def adopt(self, path: str) -> None:
        self._medium.need_power()

    def protect(self, path: str, *, passable: bool) -> None:
        self._medium.need_power()
