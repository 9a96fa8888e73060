"""Drained: the ingress is empty, and no acknowledged signal was trimmed before it was handled."""

from collections.abc import Iterator

from fabric.store.keys import ORCHESTRATORS, partition_of
from tests.chaos.evidence import Evidence
from tests.chaos.journal import lines
from tests.chaos.roster import PARTITIONS


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each stream that is not empty, and each signal that was trimmed too early."""
    for number, groups in evidence.partitions.items():
        for group, found in groups.items():
            if found["left"]:
                yield f"partition {number}: {found['left']} entries are left for {group}"
    for session, agent, path in evidence.records():
        groups = evidence.partitions[str(partition_of(session, PARTITIONS))]
        committed = _place(groups[ORCHESTRATORS]["lease"].get("committed", "0-0"))
        last = max((_place(one["id"]) for one in lines(path) if "id" in one), default=(0, 0))
        if last > committed:
            yield f"{session} {agent}: {last} was acknowledged, {committed} is committed"


def _place(entry_id: str) -> tuple[int, int]:
    number, _, part = entry_id.partition("-")
    return int(number), int(part)
