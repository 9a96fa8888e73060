"""Random histories of a session, and a check that no agent waits without knowing why."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st

from fabric.core.dependencies import TIMER, producer
from fabric.core.directive import DirectiveType
from fabric.core.event import EVERYONE, Decision, Outcome
from fabric.core.policy import BarrierPolicy, CheckpointMode, FailFast, TaskMode
from fabric.core.rule_table import Domain, Trigger
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.signal import Blocked, Failed, Signal, SignalType
from fabric.core.step import fire, step
from fabric.wire.entry import decode

#: Few names, so that agents get in each other's way often.
AGENTS = ("A", "B", "C", "D")
THINGS = ("x", "y", "z")
TASKS = ("t", "u", "v", "w")
PATHS = ("a.py", "./b.py", "src/**", "src/c.py", "*.py", "q", "x")

RULES = Rules(undeclared_grace_ms=5_000, grace_ms=4_000)
#: The same, with limits that a short history reaches.
NARROW = Rules(agents_max=3, dependencies_max=2, tasks_max=1, undeclared_grace_ms=5_000, grace_ms=0)
#: Every rule that can be turned on.
EAGER = Rules(
    checkpoints=CheckpointMode.ENFORCE,
    undeclared_grace_ms=5_000,
    priorities={"A": 3},
    serialize_reads=True,
    preemption=True,
    hold_ms_max=4_000,
    domains=(Domain("src/**", "D", exclusive=True),),
    barrier_deadline_ms=3_000,
    barrier_policy=BarrierPolicy.RELEASE,
    triggers=(Trigger("migration", tags=("x",), leader="A"), Trigger("contract", tags=("y",))),
    silence_factor=2,
    silence_ms_min=2_000,
    silence_ms_max=9_000,
    silent_deaths_max=2,
    fail_fast=FailFast.ESCALATE,
    signals_per_second_max=4,
    hook=("tell",),
    routes={"PROGRESS": ("D",)},
    task_mode=TaskMode.OBSERVE,
    attempts_max=2,
    offer_ms=2_000,
    progress_factor=2,
    progress_ms_min=1_000,
    progress_ms_max=5_000,
    grace_ms=1_000,
)

#: Server time at which a history begins, ms.
START_MS = 1_767_123_000_000

_things = st.lists(st.sampled_from(THINGS), max_size=3)
_paths = st.lists(st.sampled_from(PATHS), max_size=2)
_expected = st.lists(st.sampled_from((*AGENTS, "X", "Y")), min_size=1, max_size=3)
_task = st.none() | st.sampled_from(TASKS)
_before = st.lists(st.sampled_from(TASKS), max_size=2)
_spec = st.fixed_dictionaries(
    {"id": st.sampled_from(TASKS)},
    optional={
        "can_merge_after": _before,
        "blocks": _before,
        "priority": st.integers(0, 2),
        "estimate_ms": st.integers(0, 3_000),
        "status": st.sampled_from(("pending", "completed", "failed", "in_progress")),
    },
)
_checkpoint = st.none() | st.sampled_from(("files_read", "issues_found", "coffee"))
_percent = st.none() | st.integers(0, 100) | st.floats(0, 100)
_parts = st.sampled_from(("findings:x", "findings:y", "document:/z"))
_values = st.permutations(AGENTS).map(
    lambda agents: [{"agents": [one], "digest": one.lower()} for one in agents[:2]]
)
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
            "parallel_group": st.just("g"),
            "quotas": st.just(["m"]),
        },
    ),
    SignalType.PROGRESS: st.fixed_dictionaries(
        {"percent": _percent, "checkpoint": _checkpoint}, optional={"partial": _partial}
    ),
    SignalType.PARTIAL_RESULT: st.fixed_dictionaries(
        {"partial": _partial, "checkpoint": _checkpoint}
    ),
    SignalType.BLOCKED: st.fixed_dictionaries(
        {"on": st.sampled_from((*THINGS, "a.py", "q", "quota:m"))},
        optional={"for_ms": st.integers(1, 4_000)},
    ),
    SignalType.FAILED: st.fixed_dictionaries({"error": st.text(), "retryable": st.booleans()}),
    SignalType.CHECKPOINT_REACHED: st.fixed_dictionaries({"checkpoint": _checkpoint}),
    SignalType.DEPENDENCY_RESOLVED: st.fixed_dictionaries(
        {"dependency_id": st.sampled_from(THINGS)},
        optional={"output_location": st.text(), "consumers": st.lists(st.sampled_from(AGENTS))},
    ),
    SignalType.RELEASE: st.fixed_dictionaries({"resources": _things | _paths}),
    SignalType.INTENT: st.fixed_dictionaries({"writes": _paths, "reads": _paths}),
    SignalType.CONFLICT_DETECTED: st.fixed_dictionaries(
        {"resources": _paths}, optional={"agents": st.lists(st.sampled_from(AGENTS), max_size=4)}
    )
    | st.fixed_dictionaries({"kind": st.just("finding"), "part": _parts, "values": _values}),
    SignalType.INTEGRATION_REQUIRED: st.fixed_dictionaries(
        {"name": st.sampled_from(("release", "merge"))},
        optional={"deadline_ms": st.integers(0, 5_000)},
    ),
    SignalType.ESCALATE: st.fixed_dictionaries(
        {"question": st.text()},
        optional={
            "id": st.sampled_from(("q", "r")),
            "to": st.sampled_from(AGENTS),
            "wait": st.booleans(),
        },
    ),
    SignalType.DECIDED: st.fixed_dictionaries(
        {
            "escalation": st.sampled_from(("q", "r"))
            | st.builds("{}-{}".format, st.integers(1, 30), st.integers(1, 2))
            | _parts,
            "decision": st.text() | st.sampled_from((*AGENTS, "release", "fail", "start", "leave")),
        }
    ),
    SignalType.EARLY_COMPLETION: st.fixed_dictionaries({"capacity": st.integers(-1, 3)}),
    SignalType.TASKS_ADDED: st.fixed_dictionaries(
        {"tasks": st.lists(_spec, min_size=1, max_size=3)}
    ),
    SignalType.TASK_DONE: st.fixed_dictionaries({"task": _task}),
    SignalType.TASK_RETRY: st.fixed_dictionaries({"task": _task}),
    SignalType.RUN_CLOSED: st.fixed_dictionaries({}),
    SignalType.RUN_OPENED: st.fixed_dictionaries({}, optional={"expect": _expected}),
    SignalType.AGENTS_EXPECTED: st.fixed_dictionaries(
        {"agents": _expected}, optional={"deadline_ms": st.sampled_from((1, 60_000))}
    ),
    SignalType.RENAMED: st.fixed_dictionaries(
        {"from": st.sampled_from(["a.py", "src"]), "to": st.sampled_from(["b.py", "src"])}
    ),
    SignalType.SAME_AS: st.fixed_dictionaries(
        {"keys": st.lists(st.sampled_from(["a", "b", "c"]), min_size=2, max_size=3)},
        optional={"distinct": st.booleans()},
    ),
    SignalType.REFINED: st.fixed_dictionaries({"refiner": st.just("R"), "value": st.text()}),
}

#: Signal types with the most effects are drawn most often.
_words = st.sampled_from(
    # A session that is being deleted decides nothing more: the workers see to that.
    [kind for kind in SignalType if kind is not SignalType.RUN_PURGED]
    + 3 * [SignalType.STARTED, SignalType.DEPENDENCY_RESOLVED, SignalType.FAILED]
    + 3 * [SignalType.PROGRESS, SignalType.RELEASE, SignalType.CHECKPOINT_REACHED]
    + 2 * [SignalType.INTEGRATION_REQUIRED, SignalType.INTEGRATED, SignalType.ESCALATE]
    + 2 * [SignalType.TASKS_ADDED, SignalType.EARLY_COMPLETION]
    + 8 * [SignalType.BLOCKED, SignalType.INTENT]
)


def signal(
    kind: SignalType,
    emitter: str,
    payload: dict[str, Any],
    seq: int = 0,
    incarnation: int = 0,
    stream: str = "",
) -> Signal:
    """Return a signal as it is decoded."""
    numbers = {b"seq": seq, b"incarnation": incarnation}
    fields = [b"session", b"s", b"type", kind.value.encode(), b"emitter", emitter.encode()]
    fields += [b"stream", stream.encode()] if stream else []
    fields += [b"payload", msgspec.json.encode(payload)]
    for name, number in numbers.items():
        if number:
            fields += [name, b"%d" % number]
    return decode(fields)


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    """Draw any signal of any agent, numbered or not, sensible or not."""
    kind = draw(_words)
    payload = draw(PAYLOADS.get(kind, st.just({})))
    return signal(
        kind,
        draw(st.sampled_from(AGENTS)),
        payload,
        draw(st.just(0) | st.integers(1, 12)),
        draw(st.just(0) | st.integers(1, 3)),
    )


#: A history: signals, each after some ms. Time can step back: an entry id may be hand-made.
histories = st.lists(
    st.tuples(signals(), st.integers(0, 3_000) | st.just(-500)), min_size=1, max_size=40
)


@dataclass
class Play:
    """A session that takes a history, with the timers it sets, as a worker would keep them."""

    session: SessionState = field(default_factory=lambda: SessionState(name="s"))
    rules: Rules = RULES
    now_ms: int = START_MS
    timers: dict[str, int] = field(default_factory=dict)
    #: All decisions so far, encoded.
    outcome: list[bytes] = field(default_factory=list)
    #: Called with each decision, and the timer that caused it.
    watch: Callable[[Decision, str], None] | None = None

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        while due := sorted((at, timer) for timer, at in self.timers.items() if at <= self.now_ms):
            timer = due[0][1]
            del self.timers[timer]
            before = written(self.session)
            decision = fire(self.session, timer, self.rules, self.now_ms)
            if decision is not None and decision.outcome is not Outcome.POSTPONED:
                self._note(decision, timer)
            else:
                self._set(decision)
                assert written(self.session) == before, "a timer that was moot"

    def say(self, one: Signal) -> Decision:
        decision = step(self.session, one, self.rules, self.now_ms)
        self._note(decision)
        return decision

    def _set(self, decision: Decision | None) -> None:
        for name, due_ms in (decision.timers if decision is not None else {}).items():
            self.timers.pop(name, None)
            if due_ms is not None:
                self.timers[name] = due_ms

    def _note(self, decision: Decision, timer: str = "") -> None:
        self._set(decision)
        self.outcome.append(msgspec.json.encode(decision))
        if self.watch is not None:
            self.watch(decision, timer)


def written(session: SessionState) -> bytes:
    """Return the whole session as bytes."""
    return msgspec.json.encode(
        [
            session.log,
            session.clock_ms,
            session.opened_ms,
            sorted(session.agents.records.items()),
            sorted(session.tasks.records.items()),
            sorted(session.dependencies.records.items()),
            session.token,
            sorted(session.claims.records.items()),
            sorted(session.barriers.records.items()),
            sorted(session.escalations.records.items()),
        ]
    )


class Notifications:
    """What agents have been told during a history."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.nudged: set[tuple[str, str, int]] = set()
        #: (waiter, dependency): the waiter knows that no agent makes it, or that its makers failed.
        self.told: set[tuple[str, str]] = set()

    def note(self, decision: Decision, timer: str) -> None:
        """Record a decision."""
        for message in decision.messages:
            if message.type == DirectiveType.NUDGE:
                on = msgspec.json.decode(message.payload)["on"]
                producer_ = self.play.session.agents.get(message.to)
                assert producer_ is not None
                made = self.play.session.dependencies.get(on)
                if made is None or message.to not in made.producers:
                    continue  # a holder is told once for each claim
                key = (message.to, on, producer_.incarnation)
                assert key not in self.nudged, "told twice that somebody waits"
                self.nudged.add(key)
            elif message.type == SignalType.FAILED:
                on = msgspec.json.decode(message.payload, type=Failed).dependency_id or ""
                self.told.add((message.to, on))
            elif message.type == SignalType.ESCALATE:
                self.told.add((message.to, timer.partition(":")[2]))

    def check(self) -> None:
        """Check that an agent that waits for something nobody makes has been told."""
        session = self.play.session
        waits = {(name, on) for on, d in session.dependencies.records.items() for name in d.waiters}
        self.told &= waits
        for _, on in waits - self.told:
            dependency = session.dependencies.get(on)
            assert dependency is not None
            # Time ends the wait for a quota.
            due = on if dependency.until_ms else f"{TIMER}:{on}"
            assert producer(session, dependency) or due in self.play.timers


def resumed(decision: Decision) -> list[str]:
    """Return the agents whose wait is over, except restarted ones and members of a barrier."""
    return [
        m.to
        for m in decision.messages
        if m.type == DirectiveType.RESUME and m.to != EVERYONE and b"started again" not in m.payload
    ]


def asks(one: Signal) -> str:
    """Return the dependency that a signal begins to wait for, or ""."""
    return one.payload.on if isinstance(one.payload, Blocked) else ""
