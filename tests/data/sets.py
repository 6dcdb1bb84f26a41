"""No parameters, for tests of the rest of the data room."""

from __future__ import annotations

from typing import Any

from posagent.core.errors import PosagentError
from posagent.core.ports import Files
from posagent.crash.merchant import Link
from posagent.data.parameters import ParameterSets


class NoSchema:
    """core.ports.Schema of an image that takes no parameters."""

    digest = ""

    def check(self, value: Any) -> None:
        raise PosagentError("parameters_invalid")


def no_parameters(files: Files, root: str) -> ParameterSets:
    return ParameterSets(
        files=files,
        publisher=Link(),
        schema=NoSchema(),
        root=root,
        staged=lambda: None,
        reload=None,
        mine="slot a 1.0",
        on_trial=lambda: False,
    )
