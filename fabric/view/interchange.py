"""Findings in the formats of other tools: SARIF 2.1.0, reviewdog's rdjsonl, JUnit XML."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree

import msgspec

from fabric.view.selection import Group, Item, grouped

#: SARIF's and reviewdog's words for severities.
_LEVELS: Final = {
    "critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"
}  # fmt: skip
_RDJSON: Final = {
    "critical": "ERROR", "high": "ERROR", "medium": "WARNING", "low": "INFO", "info": "INFO"
}  # fmt: skip

#: Where SARIF's schema is; readers tell the version by it.
SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"

#: The rule of findings that name none: readers of SARIF take it that each result has one.
NO_RULE: Final = "finding"

#: Characters that XML 1.0 cannot hold in any spelling.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_encode = msgspec.json.Encoder().encode


def sarif(items: Sequence[Item], version: str) -> str:
    """Return a SARIF log with one run by this version of the fabric.

    Each finding is a result, with a fingerprint that follows from its key.
    OASIS SARIF 2.1.0, sections 3.13 and 3.27.
    """
    rules = sorted({one.rule for one in items if one.rule})
    driver: dict[str, Any] = {"name": "signal-fabric", "version": version}
    driver["rules"] = [{"id": rule} for rule in rules]
    run = {"tool": {"driver": driver}, "results": [_sarif_result(one) for one in items]}
    log = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(_encode(log)).decode()


def _sarif_result(one: Item) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": one.rule or NO_RULE,
        "level": _LEVELS[one.severity],
        "message": {"text": one.told},
        "partialFingerprints": {"signalFabricKey/v1": _fingerprint(one)},
        "properties": {"severity": one.severity, "agents": list(one.agents)},
    }
    if one.confidence is not None:
        result["rank"] = round(100 * one.confidence, 1)
    if one.path:
        artifact = {"uri": quote(one.path, safe="/:@!$&'()*+,;=~-._")}
        physical: dict[str, Any] = {"artifactLocation": artifact}
        if one.line:
            region = {"startLine": one.line, "endLine": one.end_line}
            physical["region"] = region
            if one.suggestion:
                change = {"deletedRegion": region, "insertedContent": {"text": one.suggestion}}
                changes = [{"artifactLocation": artifact, "replacements": [change]}]
                result["fixes"] = [{"artifactChanges": changes}]
        result["locations"] = [{"physicalLocation": physical}]
    return result


def _fingerprint(one: Item) -> str:
    return hashlib.sha256(one.finding.key.encode()).hexdigest()[:32]


def rdjsonl(items: Sequence[Item]) -> Iterator[str]:
    """Yield a line of reviewdog's Diagnostic format for each finding that has a path."""
    for one in items:
        if not one.path:
            continue
        location: dict[str, Any] = {"path": one.path}
        place = {"start": {"line": one.line}, "end": {"line": one.end_line}}
        if one.line:
            location["range"] = place
        diagnostic: dict[str, Any] = {
            "message": one.told,
            "location": location,
            "severity": _RDJSON[one.severity],
            "source": {"name": "signal-fabric"},
        }
        if one.rule:
            diagnostic["code"] = {"value": one.rule, **({"url": one.url} if one.url else {})}
        if one.suggestion and one.line:
            diagnostic["suggestions"] = [{"range": place, "text": one.suggestion}]
        yield _encode(diagnostic).decode()


def junit(items: Sequence[Item], session: str) -> str:
    """Return JUnit XML: a suite for each file, a failed case for each finding."""
    root = ElementTree.Element("testsuites", name=_xml(f"synthesis of {session}"))
    root.set("tests", str(len(items)))
    root.set("failures", str(len(items)))
    for path, inside in grouped(items, Group.FILE).items():
        count = str(len(inside))
        counts = {"tests": count, "failures": count, "errors": "0"}
        named = {"name": _xml(path or "no file"), **counts}
        suite = ElementTree.SubElement(root, "testsuite", named)
        for one in inside:
            named = {"name": _xml(one.finding.key), "classname": _xml(path or "no file")}
            case = ElementTree.SubElement(suite, "testcase", named)
            said = {"message": _xml(one.text), "type": one.severity}
            failure = ElementTree.SubElement(case, "failure", said)
            failure.text = _xml(f"{one.place}: {one.told} ({', '.join(one.agents)})")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
