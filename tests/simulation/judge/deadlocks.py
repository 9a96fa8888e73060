"""Every deadlock is reported, and only deadlocks.

The judge uses the committed records only. It removes agents that can go on until none is left to
remove: a naive algorithm, independent of the core.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from fabric.core.resource import overlap
from tests.simulation.judge.judge import Commit, Judge, Violation

Records = dict[str, Any]

TABLES = ("agents", "dependencies", "claims", "barriers", "escalations")
ENDED = ("completed", "failed", "dead")
IN_FORCE = ("gathering", "integrating")


class Deadlocks(Judge):
    """Follows the records of every session, and checks them after each commit that changes one."""

    def __init__(self) -> None:
        self._sessions: defaultdict[str, dict[str, Records]] = defaultdict(
            lambda: {table: {} for table in TABLES}
        )

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        touched: dict[str, None] = {}
        for table in TABLES:
            for session, changes in commit.hashes(table):
                touched[session] = None
                records = self._sessions[session][table]
                for name, value in changes.items():
                    if value is None:
                        records.pop(name, None)
                    else:
                        records[name] = msgspec.json.decode(value)
        for session in touched:
            self._look_at(session, _View(self._sessions[session]))

    def _look_at(self, session: str, view: _View) -> None:
        stuck = view.stuck()
        questions = [
            one
            for one in view.escalations.values()
            if one.get("subject") == "deadlock" and one["state"] == "open"
        ]
        named = {name for one in questions for name in one.get("waiting", [])}
        if stuck - named:
            raise Violation(
                "every deadlock is named", f"{session}: {sorted(stuck - named)} stuck, not told"
            )
        for one in questions:
            members = {agent for agent, _, _ in one.get("cycle", [])}
            if members - stuck:
                raise Violation(
                    "only deadlocks are named", f"{session}: {sorted(members - stuck)} can go on"
                )


class _View:
    """A session's records, and the waits that follow from them."""

    def __init__(self, tables: dict[str, Records]) -> None:
        self.agents, self.dependencies, self.claims, self.barriers, self.escalations = (
            tables[table] for table in TABLES
        )
        self.at_work = {n for n, one in self.agents.items() if one["status"] not in ENDED}

    def stuck(self) -> set[str]:
        """Return the agents that can never go on."""
        # A wait that no active agent can end has no edge: it is reported in other ways.
        needs = {name: [one for one in self._needs(name) if one] for name in self.at_work}
        left = {name for name, found in needs.items() if found}
        while True:
            going = {name for name in left if all(any_of - left for any_of in needs[name])}
            if not going:
                return left
            left -= going

    def _needs(self, name: str) -> Iterator[set[str]]:
        """Yield for each wait of an agent the agents that can end it; any one is enough."""
        agent = self.agents[name]
        for on in agent.get("waits_for", []):
            yield set(self.dependencies[on].get("producers", [])) & self.at_work
        for claim_id in agent.get("claims", []):
            if self.claims[claim_id]["state"] == "waiting":
                for other in self._before(claim_id):
                    yield {other}
        for question in agent.get("asks", []):
            asked = self.escalations[question]
            if asked["state"] == "open" and asked.get("to"):
                yield {asked["to"]} & self.at_work
        for other in self._keeps(name):
            yield {other} & self.at_work

    def _before(self, claim_id: str) -> set[str]:
        """Return the agents that hold what a claim waits for, or are before it in a queue.

        For resources that its agent already holds, a claim is behind nobody.
        """
        mine = self.claims[claim_id]
        has = {
            resource
            for other in self.claims.values()
            if other["agent"] == mine["agent"] and other["state"] == "held"
            for resource in other["writes"]
        }
        wanted = {
            "writes": [one for one in mine["writes"] if one not in has],
            "reads": [one for one in mine.get("reads", []) if one not in has],
        }
        others = [one for one in self.claims.values() if one["agent"] != mine["agent"]]
        return {
            other["agent"]
            for other in others
            if (other["state"] == "held" and _collide(mine, other))
            or (
                other["state"] == "waiting"
                and _place(other) < _place(mine)
                and _collide(wanted, other)
            )
        }

    def _asks(self, name: str) -> bool:
        """Whether an agent waits for a grant."""
        mine = self.agents[name].get("claims", []) if name in self.agents else []
        return any(self.claims[claim_id]["state"] == "waiting" for claim_id in mine)

    def _keeps(self, name: str) -> set[str]:
        """Return the agents for which an agent waits at a barrier."""
        for barrier in self.barriers.values():
            if barrier["state"] not in IN_FORCE:
                continue
            leads, arrived = name == barrier["leader"], barrier.get("arrived", {})
            queued = any(
                one["leader"] == name and one["state"] == "queued" for one in self.barriers.values()
            )
            is_kept = name in arrived or name in barrier.get("held", []) or queued
            is_gathering = barrier["state"] == "gathering"
            # While the leader integrates, nobody else is granted anything.
            is_kept = is_kept or (not is_gathering and self._asks(name))
            if not (leads and is_gathering) and not (is_kept and not leads):
                continue
            missing = set(barrier.get("members", [])) - set(arrived) if is_gathering else set()
            return (missing | {barrier["leader"]}) - {name}
        return set()


def _place(claim: dict[str, Any]) -> tuple[int, int, int]:
    return claim.get("rank_ms", 0), claim.get("asked", 0), claim.get("place", 0)


def _collide(one: dict[str, Any], other: dict[str, Any]) -> bool:
    pairs = [(mine, it) for mine in one["writes"] for it in _all(other)]
    pairs += [(it, mine) for it in other["writes"] for mine in one.get("reads", [])]
    return any(overlap(mine, it) for mine, it in pairs)


def _all(claim: dict[str, Any]) -> list[str]:
    return [*claim["writes"], *claim.get("reads", [])]
