"""Given up: an agent was called dead, or a person asked about it, because of an outage.

Counts in stages with an outage only: there every agent is at work until its end.
"""

from collections.abc import Iterator

import msgspec

from fabric.wire.record import OUTAGE_TYPE
from tests.chaos.evidence import Evidence
from tests.chaos.journal import lines


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each death, each question of the fabric's own, and each outage that is not logged."""
    if not any(line["what"] == "outage" for line in lines(evidence.directory / "faults.jsonl")):
        return
    for session in sorted({session for session, _, _ in evidence.members()}):
        is_noticed = False
        for entry in evidence.log(session):
            kind, fields = entry.fields.get("type"), entry.fields
            is_noticed |= kind == OUTAGE_TYPE
            if fields.get("kind") == "derived" and kind == "FAILED" and not fields.get("to"):
                yield f"{session} {entry.id}: {fields['from']} {entry.payload.get('error')}"
        if not is_noticed:
            # Then the run has shown nothing.
            yield f"{session}: no outage is in the log"
        for question, text in evidence.hashes(session)["escalations"].items():
            asked = msgspec.json.decode(text)
            if asked.get("subject"):
                yield f"{session}: question {question}, {asked['question']}"
