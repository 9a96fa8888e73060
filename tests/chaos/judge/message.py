"""Messages: each has its own id and a cause in the log, and every logged message is delivered."""

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.evidence import Evidence

Told = dict[str, dict[tuple[int, int], str]]


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each message without a cause, each that is repeated, and each that is missing."""
    for session in evidence.sessions:
        told: Told = defaultdict(dict)
        for entry in evidence.log(session):
            if to := entry.fields.get("to"):
                told[to][entry.number, entry.part] = entry.fields["type"]
        for agent in {*evidence.inboxes(session), *told, "*"}:
            where = "broadcast" if agent == "*" else f"inbox/{agent}"
            yield from _compare(evidence, session, where, told.get(agent, {}))


def _compare(
    evidence: Evidence, session: str, where: str, told: dict[tuple[int, int], str]
) -> Iterator[str]:
    left = dict(told)
    last = (0, 0)
    for entry in evidence.stream(session, where):
        place = entry.number, entry.part
        if place <= last:
            yield f"{session} {where} {entry.id}: comes after {last}"
        last = max(last, place)
        if entry.fields.get("cause") != f"{entry.number}-0":
            yield f"{session} {where} {entry.id}: its cause is {entry.fields.get('cause')}"
        kind = left.pop(place, None)
        if kind != entry.fields["type"]:
            yield f"{session} {where} {entry.id}: {entry.fields['type']}, the log has {kind}"
    for (number, part), kind in left.items():
        yield f"{session} {where}: {kind} {number}-{part} is missing"
