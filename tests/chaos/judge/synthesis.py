"""Synthesis: it agrees with the log, computed here without the fabric's own fold.

Revisions have no gaps, their patches build the document from an empty one, each result is the cause
of one revision, and every agent's last value of a finding is there.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonpatch
import msgspec

from tests.chaos.evidence import Evidence

#: Fields of the hash that stand at the document's top.
HEAD = ("revision", "complete")
#: Sections that the fabric keeps for itself.
NOTES = ("sweep", "rules")
#: Signal types that are results.
GIVING = ("PARTIAL_RESULT", "COMPLETED", "FAILED", "REFINED")


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each difference between a synthesis and its log."""
    for session in evidence.sessions:
        hashed = _document(session, evidence.hashes(session)["synthesis"])
        causes: Counter[str] = Counter()
        document: Any = {}
        for revision, entry in enumerate(evidence.stream(session, "revisions"), 1):
            if (entry.number, entry.part) != (revision, 0):
                yield f"{session}: revision {entry.id} in place of {revision}-0"
                break
            patch = msgspec.json.decode(entry.fields["patch"])
            document = jsonpatch.apply_patch(document, patch, in_place=True)
            causes.update(entry.fields["causes"].split())
        if document != hashed:
            yield f"{session}: the patches make another document than there is"
        yield from (f"{session}: {what}" for what in _results(evidence, session, causes))
        yield from (f"{session}: {what}" for what in _findings(evidence, session, hashed))


def _results(evidence: Evidence, session: str, causes: Counter[str]) -> Iterator[str]:
    """Yield each result that is the cause of no revision, or of more than one."""
    for cause, times in causes.items():
        if times > 1:
            yield f"{cause} is the cause of {times} revisions"
    for entry in evidence.log(session):
        if entry.is_signal and entry.fields["type"] in GIVING and entry.id not in causes:
            yield f"{entry.fields['type']} {entry.id} is the cause of no revision"


def _findings(evidence: Evidence, session: str, document: Any) -> Iterator[str]:
    """Yield each finding that does not show an agent's last value."""
    last: dict[tuple[str, str], tuple[int, Any]] = {}
    for entry in evidence.log(session):
        if entry.is_signal and entry.fields["type"] == "PARTIAL_RESULT":
            for finding in entry.payload["partial"].get("findings", []):
                place = entry.fields["emitter"], finding["key"]
                last[place] = entry.number, finding["value"]
    shown = document.get("findings", {})
    for (agent, key), (number, value) in last.items():
        part = shown.get(key, {})
        statements = part.get("said", {}).get(agent, [])
        found = {one["log"]: one.get("value", part.get("value")) for one in statements}
        if found.get(number, ...) != value:
            yield f"{key}: {agent} said {value!r} in {number}-0, shown is {found}"


def _document(session: str, stored: dict[str, str]) -> Any:
    """Return the document that a hash holds."""
    if not stored:
        return {}
    sections = ("agents", "contradictions", "document", "findings", "items", "refined")
    document: dict[str, Any] = {"session": session, **{name: {} for name in sections}}
    for field, text in stored.items():
        section, _, name = field.partition(":")
        value = msgspec.json.decode(text)
        if field in HEAD:
            document[field] = value
        elif section not in NOTES and value.get("said", True) != {}:
            document[section][name] = value
    return document
