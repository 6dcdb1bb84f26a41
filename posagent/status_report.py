"""Records of updates as an ISO 20022 StatusReport (catm.001.001.13), for a terminal manager that speaks it.

Owns: which of the message's elements are used, and what stands in them: one `Evt` an update (what was done, its result
code, and our own code with the detail where it went wrong), and the version that runs as the one `POICmpnt`.
Source: element names, order, lengths and code sets are those of the public schema catm.001.001.13 (2024-02-29), against
which tests/catm.py checks; docs/evidence.md says what could not be verified. The message is not signed (`SctyTrlr` is
left out): trust in it comes from the way it takes, and from the audit log.
Rules: built by the standard library, which escapes; what XML cannot hold becomes `?`. At most EVENTS_MAX updates. Only
the command imports this: the resident has no use for XML.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from posagent.core.errors import PosagentError
from posagent.core.update_record import Record

MESSAGE = "catm.001.001.13"
NAMESPACE = f"urn:iso:std:iso:20022:tech:xsd:{MESSAGE}"
EVENTS_MAX = 1000
ID_CHARACTERS_MAX = 35
ERROR_CHARACTERS_MAX = 70
NAME_CHARACTERS_MAX = 256
FORMAT_VERSION = "13"
"""`FrmtVrsn`, "version of file format", of at most six characters: the message's own."""
TERMINAL, MANAGER = "OPOI", "TMGT"
SOFTWARE, STATUS_REPORT, OPERATING_SYSTEM, IN_OPERATION = "SWPK", "STRP", "OPST", "OPER"
UPDATE, ACTIVATE = "UPDT", "ACTV"


def document(records: Sequence[Record], *, terminal: str, running: str, manager: str, now_s: float) -> bytes:
    """The message. `running` is the version that runs, `manager` the identification of whoever it is for. Raises
    PosagentError `bad_request` where a name does not fit."""
    for name in (terminal, manager):
        if not name or len(name) > ID_CHARACTERS_MAX or name != _clean(name):
            raise PosagentError(
                "bad_request", f"{name[:60]!r} is no identification of 1 to {ID_CHARACTERS_MAX} characters"
            )
    root = Element("Document", xmlns=NAMESPACE)
    message = SubElement(root, "StsRpt")
    header = SubElement(message, "Hdr")
    _put(header, "DwnldTrf", "false")
    _put(header, "FrmtVrsn", FORMAT_VERSION)
    _put(header, "XchgId", str(int(now_s)))
    _put(header, "CreDtTm", _moment(now_s))
    _party(header, "InitgPty", terminal, TERMINAL)
    report = SubElement(message, "StsRpt")
    _party(report, "POIId", terminal, TERMINAL)
    _party(report, "TermnlMgrId", manager, MANAGER)
    data_set = SubElement(report, "DataSet")
    identification = SubElement(data_set, "Id")
    _put(identification, "Tp", STATUS_REPORT)
    _put(identification, "CreDtTm", _moment(now_s))
    content = SubElement(data_set, "Cntt")
    if running:
        _component(content, running)
    _put(content, "POIDtTm", _moment(now_s))
    for record in records[-EVENTS_MAX:]:
        _event(content, record)
    ElementTree.indent(root)
    written: Any = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return bytes(written) + b"\n"


def _component(content: Element, running: str) -> None:
    component = SubElement(content, "POICmpnt")
    _put(component, "Tp", OPERATING_SYSTEM)
    SubElement(component, "Id")
    _put(SubElement(component, "Sts"), "VrsnNb", running, NAME_CHARACTERS_MAX)
    _put(component[-1], "Sts", IN_OPERATION)


def _event(content: Element, record: Record) -> None:
    event = SubElement(content, "Evt")
    _put(event, "TmStmp", _moment(record["ended"]))
    _put(event, "Rslt", record["result"])
    action = SubElement(event, "ActnId")
    _put(action, "ActnTp", ACTIVATE if record["kind"] == "rollback" else UPDATE)
    data_set = SubElement(action, "DataSetId")
    _put(data_set, "Nm", record["id"], NAME_CHARACTERS_MAX)
    _put(data_set, "Tp", SOFTWARE)
    _put(data_set, "Vrsn", record["version"], NAME_CHARACTERS_MAX)
    _put(event, "AddtlErrInf", _trouble(record), ERROR_CHARACTERS_MAX)


def _trouble(record: Record) -> str:
    """Our own code says more than the industry's."""
    if record["code"] in ("ok", ""):
        return ", ".join(record["warnings"])
    return f"{record['code']}: {record['detail']}" if record["detail"] else str(record["code"])


def _party(parent: Element, name: str, identification: str, kind: str) -> None:
    party = SubElement(parent, name)
    _put(party, "Id", identification)
    _put(party, "Tp", kind)


def _put(parent: Element, name: str, text: str, characters_max: int = NAME_CHARACTERS_MAX) -> None:
    """An element with a text; none where there is nothing to say, as no text may be empty."""
    if text := _clean(text)[:characters_max].strip():
        SubElement(parent, name).text = text


def _clean(text: str) -> str:
    """XML 1.0 holds no control characters and no halves of pairs."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _moment(at_s: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at_s, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
