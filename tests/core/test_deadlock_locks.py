"""Random claims on files, and on all of them at once, each signal judged by networkx as well.

The model below knows nothing of the core: it grants, refuses and takes back in its own way, so that
the two agree only when both are right.
"""

import random
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import networkx as nx
import pytest

from fabric.core.directive import Cancel, DirectiveType
from fabric.core.event import Decision
from fabric.core.record import ClaimState
from fabric.core.signal import SignalType
from tests.core.graph import SIGNALS, say, seeds
from tests.support.random_history import RULES, Play

#: A claim on it is like one on a file; it overlaps them all.
ALL = "**"


@dataclass
class Held:
    """A claim, as the model keeps it."""

    agent: str
    wants: list[str]
    rank: tuple[int, int]
    is_held: bool = False


@dataclass
class Locks:
    """Claims on files, and which agent waits for which: none is overtaken, none shares."""

    priorities: dict[str, int]
    claims: list[Held] = field(default_factory=list)

    def before(self, claim: Held) -> list[Held]:
        """Claims of others that go first: an agent does not queue for what it has already."""
        mine = [c for c in self.claims if c.is_held and c.agent == claim.agent]
        needed = set(claim.wants).difference(*(c.wants for c in mine))
        return [
            other
            for other in self.claims
            if other.agent != claim.agent
            and overlap(needed, other.wants)
            and (other.is_held or (not claim.is_held and other.rank < claim.rank))
        ]

    def grant(self) -> None:
        for claim in sorted(self.claims, key=lambda claim: claim.rank):
            if not claim.is_held and not self.before(claim):
                claim.is_held = True

    def ask(self, agent: str, wants: list[str], now_ms: int, number: int) -> None:
        if any(c.agent == agent and set(wants) <= set(c.wants) for c in self.claims):
            return
        rank_ms = now_ms - self.priorities[agent] * RULES.ageing_ms
        self.claims.append(Held(agent, wants, (rank_ms, number)))
        self.grant()

    def give_back(self, agent: str, wants: list[str]) -> None:
        for claim in self.claims:
            if claim.agent == agent:
                claim.wants = [one for one in claim.wants if one not in wants]
        self.claims = [claim for claim in self.claims if claim.wants]
        self.grant()

    def graph(self) -> "nx.DiGraph[str]":
        graph: nx.DiGraph[str] = nx.DiGraph()
        for claim in self.claims:
            if not claim.is_held:
                graph.add_edges_from((claim.agent, other.agent) for other in self.before(claim))
        return graph

    def refuse(self, victim: str, wants: list[str]) -> None:
        # It may wait twice for the same, after giving back a part of one: take the older one.
        self.claims.remove(
            next(c for c in self.claims if not c.is_held and (c.agent, c.wants) == (victim, wants))
        )
        self.grant()


def overlap(some: set[str], others: list[str]) -> bool:
    if ALL in some or ALL in others:
        return bool(some and others)
    return not some.isdisjoint(others)


def cancelled(decision: Decision) -> list[tuple[str, Cancel]]:
    return [
        (message.to, msgspec.json.decode(message.payload, type=Cancel))
        for message in decision.messages
        if message.type == DirectiveType.CANCEL
    ]


def judge_locks(play: Play, locks: Locks, decision: Decision) -> int:
    """Each victim was in a cycle, and no cycle is left; return the number of victims."""
    victims = cancelled(decision)
    for victim, told in victims:
        graph = locks.graph()
        assert all(graph.has_edge(*step) for step in pairwise([*told.cycle, told.cycle[0]]))
        assert locks.priorities[victim] == min(locks.priorities[name] for name in told.cycle)
        behind = {name for one in told.cycle for name in nx.ancestors(graph, one)}
        assert set(told.affected) == behind - set(told.cycle)
        locks.refuse(victim, told.resources)
    assert nx.is_directed_acyclic_graph(locks.graph()), "a cycle is left, and nobody was told"
    records = play.session.claims.records.values()
    assert sorted((c.agent, sorted(c.writes), c.state is ClaimState.HELD) for c in records) == (
        sorted((c.agent, sorted(c.wants), c.is_held) for c in locks.claims)
    )
    return len(victims)


@pytest.mark.parametrize("has_all", [False, True], ids=["files", "globs"])
@pytest.mark.parametrize("batch", range(4))
def test_cycles_of_locks_are_those_of_networkx_and_are_broken(batch: int, has_all: bool) -> None:
    broken = 0
    for seed in seeds(3_000)[batch::4]:
        rng = random.Random(seed)
        files = [f"{letter}.py" for letter in "abcdef"[: rng.randint(2, 6)]]
        names = [f"a{number}" for number in range(rng.randint(2, 6))]
        play, locks = Play(), Locks({name: rng.choice((0, 0, 1, 5)) for name in names})
        for name in names:
            say(play, SignalType.STARTED, name, priority=locks.priorities[name])
        for _ in range(SIGNALS):
            who = rng.choice(names)
            wants = rng.sample(files, rng.choice((1, 1, 2, 3)) if len(files) > 2 else 1)
            if has_all and rng.random() < 0.3:
                wants = [ALL]
            if rng.random() < 0.7:
                decision = say(play, SignalType.INTENT, who, writes=wants)
                locks.ask(who, wants, play.now_ms, play.session.log)
                closes = not nx.is_directed_acyclic_graph(locks.graph())
                assert bool(cancelled(decision)) == closes
            else:
                decision = say(play, SignalType.RELEASE, who, resources=wants)
                locks.give_back(who, wants)
            broken += judge_locks(play, locks, decision)
    assert broken, "no cycle was ever closed: nothing was tried"
