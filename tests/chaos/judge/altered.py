"""Altered: a log entry differs from its sender's record."""

from collections.abc import Iterator

import msgspec

from tests.chaos import bulk_sender
from tests.chaos.evidence import Evidence
from tests.chaos.journal import lines
from tests.chaos.roster import BULK_SESSIONS

Said = dict[tuple[str, int, int], tuple[str, str]]


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each entry that differs from its sender's record."""
    said: dict[str, Said] = {}
    for session, agent, path in evidence.records():
        for line in lines(path):
            if line["what"] == "sending":
                place = agent, line["inc"], line["seq"]
                said.setdefault(session, {})[place] = line["type"], line["payload"]
    for session in evidence.sessions:
        for entry in evidence.log(session):
            if not entry.is_signal or not entry.count("seq"):
                continue
            agent = entry.fields["emitter"]
            found = entry.fields["type"], entry.fields.get("payload", "{}")
            meant = _meant(session, said.get(session, {}), agent, entry.count("incarnation"),
                           entry.count("seq"), found[0])  # fmt: skip
            if meant is not None and meant != found:
                yield f"{session} {entry.id}: {agent} meant {meant}, the log has {found}"


def _meant(
    session: str, said: Said, agent: str, incarnation: int, number: int, kind: str
) -> tuple[str, str] | None:
    """Return type and payload by the sender's record, or None without a record."""
    if session not in BULK_SESSIONS:
        return said.get((agent, incarnation, number))
    if kind == "COMPLETED":
        return None
    kind, payload = bulk_sender.signal(agent, number)
    return kind, msgspec.json.encode(payload).decode() if payload else "{}"
