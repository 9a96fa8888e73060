"""Some time after all faults, nothing stands beyond its time: grants, offers, barriers, rosters."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.store.keys import SessionKeys
from fabric.testing.store import MemoryStore
from tests.simulation.judge.judge import Violation
from tests.simulation.judge.questions import LATE_MS


async def check_times(store: MemoryStore, keys: SessionKeys, now_ms: int) -> None:
    """Check the times that the records of a session give."""
    claims, tasks, barriers, roster = await store.hashes(
        [keys.claims, keys.tasks, keys.barriers, keys.roster]
    )
    for expected in _late(roster, "until_ms", now_ms):
        if not expected.keys() & {"came_ms", "absent_ms"}:
            raise Violation("who does not come is named", f"{keys.name}: {expected}")
    for claim in _late(claims, "expires_ms", now_ms):
        raise Violation("a grant has an end", f"{keys.name}: {claim}")
    for task in _late(tasks, "offered_until_ms", now_ms):
        raise Violation("an offer has an end", f"{keys.name}: {task}")
    for barrier in _late(barriers, "deadline_ms", now_ms):
        # One may go on beyond its deadline when a person has been asked.
        if barrier["state"] == "gathering" and not barrier.get("question"):
            raise Violation("a barrier has an end", f"{keys.name}: {barrier}")


def _late(records: dict[bytes, bytes], field: str, now_ms: int) -> list[dict[str, Any]]:
    """Return the records whose time has passed."""
    found = map(msgspec.json.decode, records.values())
    return [one for one in found if 0 < one.get(field, 0) < now_ms - LATE_MS]
