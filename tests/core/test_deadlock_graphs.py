"""Random waits for dependencies, each signal judged by networkx or by brute force as well.

The model below shares nothing with the core: it keeps the waits in its own way, so that the two
agree only when both are right.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import networkx as nx
import pytest

from fabric.core.event import Decision
from fabric.core.signal import SignalType
from tests.core.graph import SIGNALS, say, seeds
from tests.support.random_history import Play

Cycle = list[tuple[str, str]]


def asked(decision: Decision) -> list[Cycle]:
    """The cycles that are escalated: which agent waits for what, in order."""
    return [
        [(link["agent"], link["on"]) for link in msgspec.json.decode(m.payload)["context"]["cycle"]]
        for m in decision.messages
        if m.type == SignalType.ESCALATE and not m.to
    ]


def open_questions(play: Play) -> list[tuple[Cycle, list[str]]]:
    """The known cycles, and the agents that were told."""
    questions = [play.session.escalations.records[name] for name in play.session.deadlocks]
    return [([(agent, on) for agent, _, on in q.cycle], q.waiting) for q in questions]


@dataclass
class Things:
    """Which agent waits for which output, and its producers; nobody waits for a resolved one."""

    producers: dict[str, list[str]]
    waits: set[tuple[str, str]] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)

    def makers(self, thing: str) -> set[str]:
        return set(self.producers[thing]) - self.ended

    def graph(self) -> "nx.DiGraph[str]":
        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_edges_from((who, maker) for who, on in self.waits for maker in self.makers(on))
        return graph

    def stuck(self) -> set[str]:
        """The agents that can never go on: remove those that can, until none is removed."""
        left = {who for who, _ in self.waits}
        while True:
            going = {
                who
                for who in left
                if all(
                    not self.makers(on) or self.makers(on) - left
                    for waiter, on in self.waits
                    if waiter == who
                )
            }
            if not going:
                return left
            left -= going

    def wait(self, who: str, on: str) -> None:
        if on not in self.made:
            self.waits.add((who, on))

    def make(self, thing: str) -> None:
        self.made.add(thing)
        self.waits = {wait for wait in self.waits if wait[1] != thing}

    def end(self, name: str) -> None:
        self.ended.add(name)
        self.waits = {wait for wait in self.waits if wait[0] != name}

    def is_cycle(self, cycle: Cycle) -> bool:
        """Whether each of them waits for an output of the next one."""
        return all(
            (who, on) in self.waits and following in self.makers(on)
            for (who, on), (following, _) in pairwise([*cycle, cycle[0]])
        )


def play_things(
    rng: random.Random, play: Play, things: Things, *, ends: bool
) -> Iterator[tuple[Decision, str, str]]:
    """Send one signal after the other; yield its decision, and the wait that it began."""
    agents = sorted({name for makers in things.producers.values() for name in makers})
    for name in agents:
        produces = [thing for thing, makers in things.producers.items() if name in makers]
        say(play, SignalType.STARTED, name, produces=produces)
    for _ in range(SIGNALS):
        working = [name for name in agents if name not in things.ended]
        if not working:
            return
        who, on = rng.choice(working), rng.choice(list(things.producers))
        roll = rng.random()
        if roll < 0.65:
            before = (who, on) in things.waits
            things.wait(who, on)
            is_new = (who, on) in things.waits and not before
            yield say(play, SignalType.BLOCKED, who, on=on), who, on if is_new else ""
        elif roll < 0.85:
            things.waits.discard((who, on))
            yield say(play, SignalType.RELEASE, who, resources=[on]), who, ""
        elif ends and roll < 0.93:
            things.end(who)
            yield say(play, SignalType.FAILED, who, error="broken"), who, ""
        elif who in things.makers(on):
            things.make(on)
            yield say(play, SignalType.DEPENDENCY_RESOLVED, who, dependency_id=on), who, ""


def judge(play: Play, things: Things, stuck: set[str], decision: Decision) -> None:
    """Every stuck agent is named, and all members of every named cycle are stuck in it."""
    known = open_questions(play)
    named = {name for _, names in known for name in names}
    assert stuck <= named, "stuck, and nobody was told"
    for cycle in asked(decision) + [cycle for cycle, _ in known]:
        assert things.is_cycle(cycle)
        assert {who for who, _ in cycle} <= stuck, "a false alarm"


def stuck_in(graph: "nx.DiGraph[str]") -> set[str]:
    """The agents in a cycle, or stuck behind one."""
    cyclic = [
        one
        for component in nx.strongly_connected_components(graph)
        for one in component
        if len(component) > 1 or graph.has_edge(one, one)
    ]
    return {name for one in cyclic for name in (one, *nx.ancestors(graph, one))}


def closed_by(graph: "nx.DiGraph[str]", who: str, maker: str) -> int:
    """The length of the shortest cycle that an edge would close; 0 if it would close none."""
    if who == maker:
        return 1
    if maker not in graph or who not in graph or not nx.has_path(graph, maker, who):
        return 0
    return 1 + int(nx.shortest_path_length(graph, maker, who))


@pytest.mark.parametrize("batch", range(4))
def test_cycles_of_dependencies_are_those_of_networkx(batch: int) -> None:
    found = 0
    for seed in seeds(4_000)[batch::4]:
        rng = random.Random(seed)
        names = [f"a{number}" for number in range(rng.randint(2, 8))]
        play, things = Play(), Things({f"of {name}": [name] for name in names})
        graph = things.graph()
        for decision, who, on in play_things(rng, play, things, ends=False):
            before, graph = graph, things.graph()
            judge(play, things, stuck_in(graph), decision)
            length = closed_by(before, who, on.removeprefix("of ")) if on else 0
            # An agent that was stuck before has been told, and of another cycle.
            if length and who not in stuck_in(before):
                (cycle,) = asked(decision)
                assert cycle[0] == (who, on)
                assert len(cycle) == length
                found += 1
            elif not stuck_in(before):
                assert not asked(decision), "the new wait closes no cycle"
    assert found, "no cycle was ever closed: nothing was tried"


@pytest.mark.parametrize("batch", range(4))
def test_knots_of_several_producers_are_those_of_brute_force(batch: int) -> None:
    for seed in seeds(3_000)[batch::4]:
        rng = random.Random(seed)
        names = [f"a{number}" for number in range(rng.randint(3, 7))]
        producers = {
            f"t{number}": rng.sample(names, rng.randint(1, 3)) for number in range(len(names))
        }
        play, things = Play(), Things(producers)
        for decision, _, _ in play_things(rng, play, things, ends=True):
            judge(play, things, things.stuck(), decision)
