"""When the fabric considered an incarnation over: dead, replaced, or ended by its own signal."""

from collections import defaultdict

from tests.chaos.evidence import Evidence

#: Signals that end an incarnation.
ENDING = ("COMPLETED", "FAILED")


def endings(evidence: Evidence, session: str) -> dict[str, list[int]]:
    """Return for each agent the log numbers at which one of its incarnations was over."""
    found: dict[str, list[int]] = defaultdict(list)
    incarnations: dict[str, int] = {}
    for entry in evidence.log(session):
        fields = entry.fields
        kind, agent = fields.get("type", ""), fields.get("emitter", "")
        if fields.get("kind") == "derived" and kind == "FAILED" and not fields.get("to"):
            found[fields["from"]].append(entry.number)
        elif entry.is_signal:
            incarnation = entry.count("incarnation")
            if kind in ENDING or incarnation > incarnations.get(agent, incarnation):
                found[agent].append(entry.number)
            incarnations[agent] = max(incarnation, incarnations.get(agent, 0))
    return found


def between(numbers: list[int], after: int, before: int) -> bool:
    """Return whether any number lies between two log numbers."""
    return any(after < number <= before for number in numbers)
