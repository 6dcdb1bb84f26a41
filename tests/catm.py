"""The structure of ISO 20022 catm.001.001.13 (StatusReport) as far as posagent writes it, and a check against it.

Written down from the public schema of 2024-02-29 (elements in their order, how often each may come, lengths, code
sets); the schema itself is ISO's and not kept here. Where a copy is at hand, POSAGENT_CATM_XSD names it and
`differences_from_schema` compares this table with it. An element that is not written here has the type OTHER: it may
not come, but its place in the order counts.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:catm.001.001.13"
OTHER = ""
MANY = 10**9

Row = tuple[str, str, int, int]

ELEMENTS: Mapping[str, tuple[Row, ...]] = {
    "Document": (("StsRpt", "StatusReportV13", 1, 1),),
    "StatusReportV13": (("Hdr", "TMSHeader1", 1, 1), ("StsRpt", "StatusReport13", 1, 1), ("SctyTrlr", OTHER, 0, 1)),
    "TMSHeader1": (
        ("DwnldTrf", "TrueFalseIndicator", 1, 1),
        ("FrmtVrsn", "Max6Text", 1, 1),
        ("XchgId", "Number", 1, 1),
        ("CreDtTm", "ISODateTime", 1, 1),
        ("InitgPty", "GenericIdentification176", 1, 1),
        ("RcptPty", OTHER, 0, 1),
        ("Tracblt", OTHER, 0, MANY),
    ),
    "GenericIdentification176": (
        ("Id", "Max35Text", 1, 1),
        ("Tp", "PartyType33Code", 0, 1),
        ("Issr", "PartyType33Code", 0, 1),
        ("Ctry", OTHER, 0, 1),
        ("ShrtNm", "Max35Text", 0, 1),
    ),
    "StatusReport13": (
        ("POIId", "GenericIdentification176", 1, 1),
        ("InitgTrggr", OTHER, 0, 1),
        ("TermnlMgrId", "GenericIdentification176", 1, 1),
        ("DataSet", "StatusReportDataSetRequest5", 1, 1),
    ),
    "StatusReportDataSetRequest5": (
        ("Id", "DataSetIdentification10", 1, 1),
        ("SeqCntr", OTHER, 0, 1),
        ("LastSeq", "TrueFalseIndicator", 0, 1),
        ("Cntt", "StatusReportContent13", 1, 1),
    ),
    "DataSetIdentification10": (
        ("Nm", "Max256Text", 0, 1),
        ("Tp", "DataSetCategory18Code", 1, 1),
        ("Vrsn", "Max256Text", 0, 1),
        ("CreDtTm", "ISODateTime", 0, 1),
    ),
    "StatusReportContent13": (
        ("POICpblties", OTHER, 0, 1),
        ("POICmpnt", "PointOfInteractionComponent15", 0, MANY),
        ("POIGrpId", "Max35Text", 0, MANY),
        ("AttndncCntxt", OTHER, 0, 1),
        ("POIDtTm", "ISODateTime", 1, 1),
        ("DataSetReqrd", OTHER, 0, MANY),
        ("Evt", "TMSEvent11", 0, MANY),
        ("Errs", OTHER, 0, MANY),
    ),
    "PointOfInteractionComponent15": (
        ("Tp", "POIComponentType6Code", 1, 1),
        ("SubTpInf", "Max70Text", 0, 1),
        ("Id", "PointOfInteractionComponentIdentification2", 1, 1),
        ("Sts", "PointOfInteractionComponentStatus3", 0, 1),
        ("StdCmplc", OTHER, 0, MANY),
        ("Chrtcs", OTHER, 0, 1),
        ("Assmnt", OTHER, 0, MANY),
        ("Packg", OTHER, 0, MANY),
    ),
    "PointOfInteractionComponentIdentification2": (
        ("ItmNb", "Max35Text", 0, 1),
        ("PrvdrId", "Max35Text", 0, 1),
        ("Id", "Max256Text", 0, 1),
        ("SrlNb", "Max256Text", 0, 1),
    ),
    "PointOfInteractionComponentStatus3": (
        ("VrsnNb", "Max256Text", 0, 1),
        ("Sts", "POIComponentStatus1Code", 0, 1),
        ("XpryDt", OTHER, 0, 1),
    ),
    "TMSEvent11": (
        ("TmStmp", "ISODateTime", 1, 1),
        ("Rslt", "TerminalManagementActionResult5Code", 1, 1),
        ("ActnId", "TMSActionIdentification9", 1, 1),
        ("AddtlErrInf", "Max70Text", 0, 1),
        ("TermnlMgrId", "Max35Text", 0, 1),
        ("DvcRspn", OTHER, 0, 1),
    ),
    "TMSActionIdentification9": (
        ("ActnTp", "TerminalManagementAction5Code", 1, 1),
        ("DataSetId", "DataSetIdentification10", 0, 1),
    ),
}
CODES: Mapping[str, tuple[str, ...]] = {
    name: tuple(codes.split())
    for name, codes in {
        "PartyType33Code": "OPOI MERC ACCP ITAG ACQR CISS DLIS MTMG TAXH TMGT",
        "DataSetCategory18Code": (
            "AQPR APPR TXCP AKCP DLGT MGTP MRPR SCPR SWPK STRP TRPR VDPR PARA TMSP CRTF LOGF CMRQ MDFL CONF"
            " RPFL SAPR SPRP"
        ),
        "POIComponentType6Code": (
            "AQPP APPR TLPR SCPR SERV TERM DVCE SECM APLI EMVK EMVO MDWR DRVR OPST MRPR CRTF TMSP SACP SAPR LOGF MDFL"
            " SOFT CONF RPFL"
        ),
        "POIComponentStatus1Code": "WAIT OUTD OPER DACT",
        "TerminalManagementAction5Code": "DCTV DELT DWNL INST RSTR UPLD UPDT BIND RBND UBND ACTV DEVR",
        "TerminalManagementActionResult5Code": (
            "ACCD CNTE FMTE INVC LENE OVER MISS NSUP SIGE WARN SYNE TIMO UKDT UKRF INDP IDMP DPRU AERR CMER ULER SUCC"
        ),
    }.items()
}
LENGTHS = {f"Max{length}Text": length for length in (6, 35, 70, 256)}


def breaches(document: bytes) -> list[str]:
    """Where a document is not as the message has to be; its path and why."""
    return list(_of_element(ElementTree.fromstring(document), "Document", "Document"))


def _of_element(element: Element, kind: str, path: str) -> Iterator[str]:
    if element.tag != f"{{{NAMESPACE}}}{path.rpartition('/')[2]}":
        yield f"{path}: is {element.tag}"
    if element.attrib:
        yield f"{path}: has attributes"
    if kind not in ELEMENTS:
        yield from _of_text(element, kind, path)
        return
    if (element.text or "").strip():
        yield f"{path}: has text"
    at = 0
    children = [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in element]
    for name, type_, least, most in ELEMENTS[kind]:
        here = at
        while at < len(children) and children[at] == name:
            if type_ == OTHER:
                yield f"{path}/{name}: is not written here"
            else:
                yield from _of_element(element[at], type_, f"{path}/{name}")
            at += 1
        if not least <= at - here <= most:
            yield f"{path}/{name}: comes {at - here} times"
    if at < len(children):
        yield f"{path}/{children[at]}: is not expected here"


def _of_text(element: Element, kind: str, path: str) -> Iterator[str]:
    text = element.text or ""
    if len(element):
        yield f"{path}: has elements"
    if not _fits(text, kind):
        yield f"{path}: {text!r} is no {kind}"


def _fits(text: str, kind: str) -> bool:
    if kind in CODES:
        return text in CODES[kind]
    if kind in LENGTHS:
        return 1 <= len(text) <= LENGTHS[kind]
    if kind == "TrueFalseIndicator":
        return text in ("true", "false")
    if kind == "Number":
        return re.fullmatch(r"\d{1,18}", text) is not None
    assert kind == "ISODateTime", kind
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text) is not None


@dataclass(frozen=True, slots=True)
class Schema:
    """A copy of the schema."""

    types: Mapping[str, Element]

    @staticmethod
    def read(path: str) -> Schema:
        root = ElementTree.parse(path).getroot()
        assert root.get("targetNamespace") == NAMESPACE
        return Schema({name: one for one in root if (name := one.get("name")) and one.tag.endswith("Type")})

    def rows(self, kind: str) -> list[Row]:
        (sequence,) = self.types[kind]
        return [
            (str(one.get("name")), str(one.get("type")), int(one.get("minOccurs", "1")), _most(one)) for one in sequence
        ]

    def values(self, kind: str, facet: str) -> list[str]:
        (restriction,) = self.types[kind]
        return [str(one.get("value")) for one in restriction if one.tag.endswith(facet)]


def _most(element: Element) -> int:
    most = element.get("maxOccurs", "1")
    return MANY if most == "unbounded" else int(most)


def differences_from_schema(schema: Schema) -> list[str]:
    found = []
    for kind, rows in ELEMENTS.items():
        real = schema.rows(kind)
        same = len(real) == len(rows) and all(
            ours[0] == theirs[0] and ours[2:] == theirs[2:] and ours[1] in (theirs[1], OTHER)
            for ours, theirs in zip(rows, real, strict=True)
        )
        found += [] if same else [f"{kind}: {real}"]
    found += [kind for kind, codes in CODES.items() if sorted(schema.values(kind, "enumeration")) != sorted(codes)]
    found += [kind for kind, most in LENGTHS.items() if schema.values(kind, "maxLength") != [str(most)]]
    return found
