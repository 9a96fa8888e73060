"""Random histories of a session, and what must hold after each of its events."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st

from fabric.core import decision as shared
from fabric.core.decision import Decision, Outcome
from fabric.core.directive import DirectiveType
from fabric.core.rules import Rules
from fabric.core.session import ENDED, AgentStatus, DependencyStatus, Session
from fabric.core.signal import Blocked, Failed, Signal, SignalType
from fabric.core.step import fire, step
from fabric.core.undeclared import TIMER, producer
from fabric.wire.entry import decode

#: Few names, so that the same ones meet again and again.
AGENTS = ("A", "B", "C", "D")
THINGS = ("x", "y", "z")
TASKS = ("t", "u")

RULES = Rules(undeclared_grace_ms=5_000)
#: The same, with limits that a short history runs into.
NARROW = Rules(agents_max=3, dependencies_max=2, tasks_max=1, undeclared_grace_ms=5_000)

#: Server time at which a history begins, ms.
START_MS = 1_767_123_000_000

_things = st.lists(st.sampled_from(THINGS), max_size=3)
_task = st.none() | st.sampled_from(TASKS)
_checkpoint = st.none() | st.sampled_from(("files_read", "issues_found", "coffee"))
_percent = st.none() | st.integers(0, 100) | st.floats(0, 100)
_partial = st.dictionaries(
    st.sampled_from(("found", "findings_of", "done")), st.integers() | st.text()
)

PAYLOADS: dict[SignalType, st.SearchStrategy[dict[str, Any]]] = {
    SignalType.STARTED: st.fixed_dictionaries(
        {"produces": _things, "task": _task},
        optional={
            "task_type": st.just("Code Review"),
            "reads": _things,
            "priority": st.integers(0, 9),
        },
    ),
    SignalType.PROGRESS: st.fixed_dictionaries(
        {"percent": _percent, "checkpoint": _checkpoint}, optional={"partial": _partial}
    ),
    SignalType.PARTIAL_RESULT: st.fixed_dictionaries(
        {"partial": _partial, "checkpoint": _checkpoint}
    ),
    SignalType.BLOCKED: st.fixed_dictionaries({"on": st.sampled_from(THINGS)}),
    SignalType.FAILED: st.fixed_dictionaries({"error": st.text(), "retryable": st.booleans()}),
    SignalType.CHECKPOINT_REACHED: st.fixed_dictionaries({"checkpoint": _checkpoint}),
    SignalType.DEPENDENCY_RESOLVED: st.fixed_dictionaries(
        {"dependency_id": st.sampled_from(THINGS)},
        optional={"output_location": st.text(), "consumers": st.lists(st.sampled_from(AGENTS))},
    ),
    SignalType.RELEASE: st.fixed_dictionaries({"resources": _things}),
    SignalType.ESCALATE: st.fixed_dictionaries({"question": st.text()}),
    SignalType.DECIDED: st.fixed_dictionaries(
        {"escalation": st.just("1-0"), "decision": st.text()}
    ),
}

#: Words that do the most come up most often.
_words = st.sampled_from(
    [*SignalType]
    + 3 * [SignalType.STARTED, SignalType.DEPENDENCY_RESOLVED, SignalType.FAILED]
    + 3 * [SignalType.PROGRESS, SignalType.RELEASE]
    + 8 * [SignalType.BLOCKED]
)


def signal(
    kind: SignalType, emitter: str, payload: dict[str, Any], seq: int = 0, incarnation: int = 0
) -> Signal:
    """A signal as it comes in."""
    numbers = {b"seq": seq, b"incarnation": incarnation}
    fields = [b"session", b"s", b"type", kind.value.encode(), b"emitter", emitter.encode()]
    fields += [b"payload", msgspec.json.encode(payload)]
    for name, number in numbers.items():
        if number:
            fields += [name, b"%d" % number]
    return decode(fields)


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    """Any signal of any agent, numbered or not, in sense and nonsense."""
    kind = draw(_words)
    payload = draw(PAYLOADS.get(kind, st.just({})))
    return signal(
        kind,
        draw(st.sampled_from(AGENTS)),
        payload,
        draw(st.just(0) | st.integers(1, 12)),
        draw(st.just(0) | st.integers(1, 3)),
    )


#: A history: signals, each after so many ms. Some ms pass backwards: a hand-made entry id.
histories = st.lists(
    st.tuples(signals(), st.integers(0, 3_000) | st.just(-500)), min_size=1, max_size=40
)


@dataclass
class Play:
    """A session that a history happens to, with the timers it sets, as a worker would keep them."""

    session: Session = field(default_factory=lambda: Session("s"))
    rules: Rules = RULES
    now_ms: int = START_MS
    timers: dict[str, int] = field(default_factory=dict)
    #: Everything that came out, encoded.
    outcome: list[bytes] = field(default_factory=list)
    #: Called with each decision, and the timer that it comes from.
    watch: Callable[[Decision, str], None] | None = None

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        while due := sorted((at, timer) for timer, at in self.timers.items() if at <= self.now_ms):
            timer = due[0][1]
            del self.timers[timer]
            before = written(self.session)
            decision = fire(self.session, timer, self.rules, self.now_ms)
            if decision is not None:
                self._note(decision, timer)
            else:
                assert written(self.session) == before, "a timer that was moot"

    def say(self, one: Signal) -> Decision:
        decision = step(self.session, one, self.rules, self.now_ms)
        self._note(decision)
        return decision

    def _note(self, decision: Decision, timer: str = "") -> None:
        for name, due_ms in decision.timers.items():
            self.timers.pop(name, None)
            if due_ms is not None:
                self.timers[name] = due_ms
        self.outcome.append(msgspec.json.encode(decision))
        if self.watch is not None:
            self.watch(decision, timer)


def written(session: Session) -> bytes:
    """Everything that a session holds, as bytes."""
    return msgspec.json.encode(
        [
            session.log,
            session.clock_ms,
            session.opened_ms,
            sorted(session.agents.records.items()),
            sorted(session.tasks.records.items()),
            sorted(session.dependencies.records.items()),
        ]
    )


def check(play: Play) -> None:
    """What must hold between any two events."""
    session = play.session
    for name, agent in session.agents.records.items():
        assert (agent.status is AgentStatus.BLOCKED) == bool(agent.waits_for)
        assert len(set(agent.waits_for)) == len(agent.waits_for)
        if agent.status in ENDED:
            assert not agent.waits_for
        for on in agent.waits_for:
            dependency = session.dependencies.get(on)
            assert dependency is not None
            assert name in dependency.waiters
        for on in agent.produces:
            dependency = session.dependencies.get(on)
            assert dependency is not None
            assert name in dependency.producers
    for on, dependency in session.dependencies.records.items():
        for name, cause in dependency.waiters.items():
            waiter = session.agents.get(name)
            assert waiter is not None
            assert on in waiter.waits_for
            number, _, rest = cause.partition("-")
            assert rest == "0"
            assert 1 <= int(number) <= session.log
        if dependency.status is DependencyStatus.RESOLVED:
            assert not dependency.waiters
            assert dependency.resolved_by
        for name in dependency.producers:
            declared = session.agents.get(name)
            assert declared is not None
            assert on in declared.produces
    # They are shared by all sessions, and must stay as they are.
    assert Decision() == shared.ACCEPTED
    assert Decision(to_results=True) == shared.ACCEPTED_TO_RESULTS
    assert Decision(Outcome.REPEATED) == shared.REPEATED


class Ledger:
    """What agents have been told, over a whole history."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.nudged: set[tuple[str, str, int]] = set()
        #: (waiter, dependency) whose waiter knows that nobody makes it, or that its makers failed.
        self.told: set[tuple[str, str]] = set()

    def note(self, decision: Decision, timer: str) -> None:
        """Take in a decision."""
        for message in decision.messages:
            if message.type == DirectiveType.NUDGE:
                on = msgspec.json.decode(message.payload)["on"]
                producer_ = self.play.session.agents.get(message.to)
                assert producer_ is not None
                key = (message.to, on, producer_.incarnation)
                assert key not in self.nudged, "told twice that somebody waits"
                self.nudged.add(key)
            elif message.type == SignalType.FAILED:
                on = msgspec.json.decode(message.payload, type=Failed).dependency_id or ""
                self.told.add((message.to, on))
            elif message.type == SignalType.ESCALATE:
                self.told.add((message.to, timer.partition(":")[2]))

    def check(self) -> None:
        """Nobody waits without knowing for something that nobody makes."""
        session = self.play.session
        waits = {(name, on) for on, d in session.dependencies.records.items() for name in d.waiters}
        self.told &= waits
        for _, on in waits - self.told:
            dependency = session.dependencies.get(on)
            assert dependency is not None
            assert producer(session, dependency) or f"{TIMER}:{on}" in self.play.timers


def resumed(decision: Decision) -> list[str]:
    """Who is told to go on."""
    return [m.to for m in decision.messages if m.type == DirectiveType.RESUME]


def asks(one: Signal) -> str:
    """The dependency that a signal begins to wait for, or nothing."""
    return one.payload.on if isinstance(one.payload, Blocked) else ""
