"""Strict reading of TOML tables into frozen structs: the part of posagent.config that knows no key by name.

A field's metadata may bound it: `range` is (low, high), `values` are the allowed words.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import types
from typing import Any, get_args, get_origin, get_type_hints

from posagent.core.errors import ConfigError


def between(low: float, high: float, default: Any = dataclasses.MISSING) -> Any:
    """A field whose number is from `low` to `high`."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


def one_of(*values: str, default: Any = dataclasses.MISSING) -> Any:
    """A field that has one of these words, or a list of them."""
    return dataclasses.field(default=default, metadata={"values": values})


class Reader:
    """Turns TOML tables into structs and knows the line of each key for its complaints."""

    def __init__(self, text: str, where: str) -> None:
        self._lines = text.splitlines()
        self._where = where

    def complain(self, code: str, path: str, detail: str) -> ConfigError:
        line = self._line_of(path)
        return ConfigError(code, f"{self._where}:{line}: {path}: {detail}", key=path, line=line)

    def _line_of(self, path: str) -> int:
        """The line of the key inside its table, or of the table, or 1."""
        table, _, key = re.sub(r"\[\d+\]", "", path).rpartition(".")
        inside, found = table == "", 1
        for number, text in enumerate(self._lines, 1):
            header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", text)
            if header:
                inside = header[1] == table
                if header[1] in (table, f"{table}.{key}".lstrip(".")):
                    found = number
            elif inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", text):
                return number
        return found

    def struct(self, kind: type[Any], table: Any, path: str) -> Any:
        if not isinstance(table, dict):
            raise self.complain("config_bad_value", path, "must be a table")
        fields = {f.name: f for f in dataclasses.fields(kind)}
        for key in table:
            if key not in fields:
                raise self.complain("config_unknown_key", _join(path, key), f"known here: {', '.join(fields)}")
        # of what is given only: most keys are not, and this takes most of the time
        given = types.SimpleNamespace(__annotations__={key: fields[key].type for key in table})
        hints = get_type_hints(given, vars(sys.modules[kind.__module__]))
        values: dict[str, Any] = {}
        for name, f in fields.items():
            here = _join(path, name)
            if name in table:
                values[name] = self.value(hints[name], table[name], here, f.metadata)
            elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
                raise self.complain("config_missing_key", here, "must be given")
        return kind(**values)

    def value(self, kind: Any, value: Any, path: str, metadata: types.MappingProxyType[Any, Any]) -> Any:
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self.struct(kind, value, path)
        if get_origin(kind) is tuple:
            if not isinstance(value, list):
                raise self.complain("config_bad_value", path, "must be a list")
            item = get_args(kind)[0]
            return tuple(self.value(item, v, f"{path}[{i}]", metadata) for i, v in enumerate(value))
        if type(value) is not kind:
            raise self.complain("config_bad_value", path, f"must be of type {kind.__name__}")
        if isinstance(value, str) and ("\0" in value or "\n" in value):
            raise self.complain("config_bad_value", path, "must be one line")
        if "range" in metadata:
            low, high = metadata["range"]
            if not low <= value <= high:
                raise self.complain("config_bad_value", path, f"{value} is not between {low} and {high}")
        if "values" in metadata and value not in metadata["values"]:
            raise self.complain("config_bad_value", path, f"must be one of {', '.join(metadata['values'])}")
        return value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
