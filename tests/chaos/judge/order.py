"""Order: the signals of one agent take effect in the order in which it sent them."""

from collections.abc import Iterator

from tests.chaos.evidence import Evidence


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each entry that comes after a later signal of the same agent."""
    for session in evidence.sessions:
        last: dict[str, tuple[int, int]] = {}
        for entry in evidence.log(session):
            place = entry.count("incarnation"), entry.count("seq")
            if not (entry.is_signal and all(place)):
                continue
            agent = entry.fields["emitter"]
            before = last.get(agent, (0, 0))
            if place < before:
                yield f"{session} {entry.id}: {agent} says {place} after {before}"
            last[agent] = max(place, before)
