"""Many agents ask for the same file at once: one gets it, the others get it in their order."""

import random

import msgspec
import pytest

from fabric.core.directive import DirectiveType, Proceed
from fabric.core.event import Decision
from fabric.core.record import ClaimState
from fabric.core.signal import Signal, SignalType
from tests.core.cost import lines_of
from tests.support.effort import scaled
from tests.support.random_history import RULES, Play, signal

PATH = "a.py"


class File:
    """One file: its holder, as the agents are told, and the tokens granted for it."""

    def __init__(self) -> None:
        self.play = Play()
        self.holder = ""
        self.token = 0

    def start(self, name: str, priority: int) -> None:
        self._say(signal(SignalType.STARTED, name, {"priority": priority}))

    def ask(self, name: str) -> None:
        self._say(signal(SignalType.INTENT, name, {"writes": [PATH]}))

    def give_back(self) -> str:
        """The holder gives it back; return the next holder."""
        release = signal(SignalType.RELEASE, self.holder, {"resources": [PATH]})
        self.holder = ""
        self._say(release)
        return self.holder

    def _say(self, one: Signal) -> None:
        for name, token in grants(self.play.say(one)):
            if token == self.token and name == self.holder:
                continue  # told again, since others want it as well
            assert not self.holder, "two have it"
            assert token > self.token, "a token that does not rise"
            self.holder, self.token = name, token
        held = [c for c in self.play.session.claims.records.values() if c.token]
        assert [(c.agent, c.token) for c in held] == (
            [(self.holder, self.token)] if self.holder else []
        )


def grants(decision: Decision) -> list[tuple[str, int]]:
    """The agents that may go on, each with its token."""
    told = [
        (message.to, msgspec.json.decode(message.payload, type=Proceed).token)
        for message in decision.messages
        if message.type == DirectiveType.PROCEED
    ]
    return [(name, token) for name, token in told if token is not None]


@pytest.mark.parametrize(
    ("agents", "rounds"),
    # 100 rounds each with FABRIC_TEST_EFFORT=100.
    [(8, 100), (1_000, min(100, scaled(1)))],
    ids=["8", "1000"],
)
def test_all_ask_at_once_and_each_is_served_in_its_turn(agents: int, rounds: int) -> None:
    rng = random.Random(agents)
    names = [f"agent {number}" for number in range(agents)]
    file = File()
    for number in range(rounds):
        priorities = {name: rng.randint(0, 9) for name in names}
        if number % 10 == 0:
            for name in names:
                file.start(name, priorities[name])
            kept = priorities
        rng.shuffle(names)
        turns = []
        for place, name in enumerate(names):
            # Some ask together, some so late that the waits of others count.
            file.play.now_ms += rng.choice((0, 0, 0, 1, 200_000 // agents))
            file.ask(name)
            turns.append((file.play.now_ms - kept[name] * RULES.ageing_ms, place, name))
        assert file.holder == names[0], "the first one finds it free"
        served = [file.holder]
        while file.give_back():
            served.append(file.holder)
        assert served == [names[0], *(name for _, _, name in sorted(turns[1:]))]
    assert file.token == agents * rounds
    assert not file.play.session.claims.records


def test_nobody_starves_while_urgent_ones_keep_coming() -> None:
    """An agent of priority 9 comes each second and keeps the file for two: the queue only grows.

    Nine points are worth 90 seconds of waiting. An agent that comes later than that is behind the
    patient one, so at most 90 are served before it, and the one that had the file already.
    """
    file = File()
    file.start("holder", 9)
    file.ask("holder")
    file.start("patient", 0)
    file.ask("patient")
    before_ms = file.play.now_ms
    most = 9 * RULES.ageing_ms // 1_000
    served = 0
    for second in range(1, 10 * most):
        file.play.now_ms = before_ms + second * 1_000
        file.start(f"urgent {second}", 9)
        file.ask(f"urgent {second}")
        if second % 2 == 0:
            file.give_back()
            if file.holder == "patient":
                break
            served += 1
    assert file.holder == "patient"
    # All of the more urgent ones, though, and none of the later ones.
    assert served == most - 1


@pytest.mark.parametrize("what", ["release", "ask", "ask for two", "ask in the middle"])
def test_what_a_signal_costs_does_not_grow_badly_with_those_who_wait(what: str) -> None:
    """Counted in lines of code that run, so that a loop over all waiters shows.

    In the middle of a queue others come to wait behind the newcomer: then those before it are
    looked through once, for a cycle; but not each of them for each.
    """
    few, many = (lines_with(waiting, what) for waiting in (10, 1_000))
    assert many < few + 50 + (10 * 1_000 if what == "ask in the middle" else 0)


def lines_with(waiting: int, what: str) -> int:
    file = File()
    for number in range(waiting + 1):
        if what == "ask in the middle":
            file.start(f"agent {number}", 9 * (number % 2))
        file.ask(f"agent {number}")
    file.start("late", 5 if what == "ask in the middle" else 0)
    writes = [PATH] if what == "ask" else [PATH, "b.py"]
    one = signal(SignalType.INTENT, "late", {"writes": writes})
    if what == "release":
        one = signal(SignalType.RELEASE, file.holder, {"resources": [PATH]})
    return lines_of(file.play, one)


def test_all_or_nothing_lets_a_full_table_eat() -> None:
    """Fifty at a round table each ask for both forks beside them: no agent ever holds just one."""
    rng = random.Random(50)
    play = Play()
    hungry = [f"philosopher {seat}" for seat in range(50)]
    forks = {name: {f"fork {seat}", f"fork {(seat + 1) % 50}"} for seat, name in enumerate(hungry)}
    rng.shuffle(hungry)
    eating: set[str] = set()
    for name in hungry:
        decision = play.say(signal(SignalType.INTENT, name, {"writes": sorted(forks[name])}))
        assert not any(m.type == DirectiveType.CANCEL for m in decision.messages)
        eating.update(who for who, _ in grants(decision))
    eaten: list[str] = []
    while eating:
        for claim in play.session.claims.records.values():
            assert (claim.state is ClaimState.HELD) == (claim.agent in eating)
        assert sum(len(forks[name]) for name in eating) == len(
            set().union(*(forks[name] for name in eating))
        ), "two have the same fork"
        name = rng.choice(sorted(eating))
        eating.remove(name)
        eaten.append(name)
        decision = play.say(signal(SignalType.RELEASE, name, {}))
        eating.update(who for who, _ in grants(decision))
    assert sorted(eaten) == sorted(hungry)


def test_what_an_agent_has_itself_is_not_in_its_way() -> None:
    play = Play()

    def having(name: str) -> list[list[str]]:
        claims = play.session.claims.records.values()
        return [c.writes for c in claims if c.agent == name and c.state is ClaimState.HELD]

    wanted = [["a.py"], ["*.py"], ["a.py", "b.py"], ["**"]]
    for writes in wanted:
        play.say(signal(SignalType.INTENT, "A", {"writes": writes}))
    assert having("A") == wanted
    # Nor does its own wait count: once A is gone, B has all of it.
    for writes in wanted:
        play.say(signal(SignalType.INTENT, "B", {"writes": writes}))
    assert having("B") == []
    play.say(signal(SignalType.RELEASE, "A", {}))
    assert having("B") == wanted


def test_an_agent_does_not_wait_behind_itself() -> None:
    """X has `x.py`, Y has `y.py`; A wants both, and something else with `x.py`."""
    play = Play()
    asked = [("X", ["x.py"]), ("Y", ["y.py"]), ("A", ["x.py", "y.py"]), ("A", ["x.py", "z.py"])]
    for name, writes in asked:
        play.say(signal(SignalType.INTENT, name, {"writes": writes}))
    decision = play.say(signal(SignalType.RELEASE, "X", {}))
    assert [name for name, _ in grants(decision)] == ["A"]
