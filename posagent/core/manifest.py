"""What the signed metadata says about one system image, or one set of parameters: the only facts about an update that
are believed.

Rules: built from the `custom` field of a TUF target, strictly and within bounds; fields this release does not know
are ignored, so that a later builder may add some. A later *meaning* gets another `format` and is left alone here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from posagent.core.errors import BundleError

FORMAT = 1
SYSTEM, PARAMETERS = "system", "parameters"
COMPONENTS = (SYSTEM, PARAMETERS)
LENGTH_MAX = 1 << 40
COUNTER_MAX = (1 << 31) - 1
REVISION_MAX = 65535
HARDWARE_MAX = 64
RATES_MAX = 32
APPROVED_MAX = 16
GROUPS_MAX = 16
CONDITIONS = ("reconcile", "confirm")
"""What must be done first: settle all payments (ISO 20022 RCNC), ask the merchant (MANC)."""
REASONS = ("security", "approval", "faults", "feature", "notice")
"""Why it is needed: a hole, an approval that ends, faults seen, something new, the fleet's wish."""
CONTENTS_MAX = 16
TIME_MAX = 1 << 40

_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,26}")  # with its digest before it, it fits a tar header
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}")
DIGEST_PATTERN = re.compile(r"[0-9a-f]{64}")
_GROUP = re.compile(r"[0-9a-f]{16}")
_WRAPPED = re.compile(r"[0-9a-f]{160}")
_DIGEST_OR_NONE = re.compile(r"([0-9a-f]{64})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One component: a system image, or a set of parameters (core.parameters), which is stored as it is: that is both
    its payload and its image. Lengths in bytes, digests SHA-256 in hexadecimal.

    `length` and `sha256` are of the payload file; `header_sha256` of its header (core.payload), which in turn has the
    digest of every operation; `sealed` has the key of an encrypted payload, wrapped for each group of terminals that
    may read it (core.seal); a `whole` one is for terminals that find little of the image: of large operations; a delta
    has size and digest of the image it was made from, others 0 and nothing;
    `profile` has whole numbers that help to estimate. `conditions` have to hold before it is installed; from
    `not_after` on (seconds since 1970, 0: never) it is installed outside of maintenance windows, too; `contents` and
    `reason` are told to people. `approved` has digests that an authority approved, such as those of the kernel and of
    the major EMV parameters: self-tests of the new version name them.
    """

    target: str
    length: int
    sha256: str
    version: str
    security_counter: int
    hw_ids: tuple[str, ...]
    min_hw_rev: int
    component: str
    header_sha256: str
    image_size: int
    image_sha256: str
    source_size: int = 0
    source_sha256: str = ""
    whole: bool = False
    sealed: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, int] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()
    not_after: int = 0
    contents: tuple[str, ...] = ()
    reason: str = ""
    approved: Mapping[str, str] = field(default_factory=dict)

    @property
    def member(self) -> str:
        """The payload's name under `targets/` of a bundle: prefixed with its digest, as TUF repositories do."""
        return f"{self.sha256}.{self.target}"

    @property
    def terms(self) -> dict[str, Any]:
        """What people and the agent have to know before it is installed."""
        return {
            "conditions": list(self.conditions),
            "not_after": self.not_after,
            "contents": list(self.contents),
            "reason": self.reason,
        }

    def as_custom(self) -> dict[str, Any]:
        """The `custom` field of the TUF target, as the builder signs it."""
        optional: dict[str, Any] = {name: value for name, value in self.terms.items() if value}
        if self.whole:
            optional["whole"] = True
        if self.sealed:
            optional["sealed"] = dict(self.sealed)
        if self.approved:
            optional["approved"] = dict(self.approved)
        if self.source_sha256:
            optional |= {"source_size": self.source_size, "source_sha256": self.source_sha256}
        return {
            "format": FORMAT,
            "component": self.component,
            "version": self.version,
            "security_counter": self.security_counter,
            "hw_ids": list(self.hw_ids),
            "min_hw_rev": self.min_hw_rev,
            "header_sha256": self.header_sha256,
            "image_size": self.image_size,
            "image_sha256": self.image_sha256,
            "profile": dict(self.profile),
            **optional,
        }


def is_component(custom: Any) -> bool:
    """Whether a target's `custom` field claims to be something `from_custom` must understand."""
    if not isinstance(custom, Mapping):
        return False
    form = custom.get("format")
    return custom.get("component") in COMPONENTS and type(form) is int and form == FORMAT


def leading(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Those that say what a bundle is: its system images, or, where it has none, its parameters."""
    found = list(manifests)
    return [one for one in found if one.component == SYSTEM] or found


def from_custom(target: str, *, length: Any, sha256: Any, custom: Any) -> Manifest:
    """The manifest of one TUF target. Raises BundleError `bundle_unreadable` naming the field."""
    if not is_component(custom):
        raise _unreadable("custom", "is no component of format 1")
    fields = {**custom, "target": target, "length": length, "sha256": sha256}
    return Manifest(
        target=_text(fields, "target", _TARGET),
        length=_whole(fields, "length", 1, LENGTH_MAX),
        sha256=_text(fields, "sha256", DIGEST_PATTERN),
        version=_text(fields, "version", _WORD),
        security_counter=_whole(fields, "security_counter", 0, COUNTER_MAX),
        hw_ids=_hw_ids(fields.get("hw_ids")),
        min_hw_rev=_whole(fields, "min_hw_rev", 0, REVISION_MAX),
        component=custom["component"],
        header_sha256=_text(fields, "header_sha256", DIGEST_PATTERN),
        image_size=_whole(fields, "image_size", 1, LENGTH_MAX),
        image_sha256=_text(fields, "image_sha256", DIGEST_PATTERN),
        source_size=_whole({"source_size": 0, **fields}, "source_size", 0, LENGTH_MAX),
        source_sha256=_text({"source_sha256": "", **fields}, "source_sha256", _DIGEST_OR_NONE),
        whole=_truth(fields.get("whole", False)),
        sealed=_sealed(fields.get("sealed", {})),
        profile=_profile(fields.get("profile", {})),
        approved=_approved(fields.get("approved", {})),
        **terms_of(fields),
    )


def terms_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`Manifest.terms` in a table, those that are missing as nothing. A condition that this release does not know
    cannot be kept: raises BundleError `bundle_unreadable` naming the field."""
    conditions, contents = fields.get("conditions", []), fields.get("contents", [])
    if not isinstance(conditions, list) or not all(one in CONDITIONS for one in conditions):
        raise _unreadable("conditions", f"may be {', '.join(CONDITIONS)}")
    if not isinstance(contents, list) or len(contents) > CONTENTS_MAX:
        raise _unreadable("contents", f"must list at most {CONTENTS_MAX} words")
    reason = fields.get("reason", "")
    if reason not in ("", *REASONS):
        raise _unreadable("reason", f"may be {', '.join(REASONS)}")
    return {
        "conditions": tuple(conditions),
        "not_after": _whole({"not_after": 0, **fields}, "not_after", 0, TIME_MAX),
        "contents": tuple(_text({"contents": one}, "contents", _WORD) for one in contents),
        "reason": reason,
    }


def _unreadable(name: str, trouble: str) -> BundleError:
    return BundleError("bundle_unreadable", f"manifest: {name} {trouble}", field=name)


def _text(fields: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _unreadable(name, f"must match {pattern.pattern}")
    return value


def _whole(fields: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not low <= value <= high:
        raise _unreadable(name, f"must be a whole number from {low} to {high}")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _unreadable("whole", "must be true or false")
    return value


def _hw_ids(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= HARDWARE_MAX:
        raise _unreadable("hw_ids", f"must list 1 to {HARDWARE_MAX} hardware names")
    return tuple(_text({"hw_ids": one}, "hw_ids", _WORD) for one in value)


def _sealed(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > GROUPS_MAX:
        raise _unreadable("sealed", f"must be a table of at most {GROUPS_MAX} groups")
    for group in value:
        _text({"sealed": group}, "sealed", _GROUP)
        _text(value, group, _WRAPPED)
    return dict(value)


def _approved(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > APPROVED_MAX:
        raise _unreadable("approved", f"must be a table of at most {APPROVED_MAX} digests")
    for name, digest in value.items():
        _text({"approved": name}, "approved", _WORD)
        _text({"approved": digest}, "approved", DIGEST_PATTERN)
    return dict(value)


def _profile(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > RATES_MAX:
        raise _unreadable("profile", f"must be a table of at most {RATES_MAX} numbers")
    for name in value:
        _text({"profile": name}, "profile", _WORD)
        _whole(value, name, 0, LENGTH_MAX)
    return dict(value)
