"""Received: an agent reads every message at least once, over all its incarnations."""

from collections.abc import Iterator

from tests.chaos.evidence import Evidence
from tests.chaos.journal import Line


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each message that no incarnation has read although a later one was read."""
    for session, agent, lives in evidence.members():
        heard: set[str] = set()
        upto = (0, 0)
        for line in (line for life in lives for line in life):
            if line["what"] == "received" and line["where"] == "inbox":
                heard.update(line["ids"])
                upto = max(upto, *map(_place, line["ids"]))
            upto = max(upto, _settled(line))
        for entry in evidence.stream(session, f"inbox/{agent}"):
            if (entry.number, entry.part) <= upto and entry.id not in heard:
                yield f"{session} {agent}: {entry.fields['type']} {entry.id} was never read"


def _settled(line: Line) -> tuple[int, int]:
    """Return the id up to which an agent had read everything at its end."""
    return _place(line["upto"]) if line["what"] == "settled" and line["upto"] else (0, 0)


def _place(entry_id: str) -> tuple[int, int]:
    number, _, part = entry_id.partition("-")
    return int(number), int(part)
