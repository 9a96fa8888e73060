"""Which task an agent is offered, and that nothing is begun that the rules keep apart."""

from statistics import mean
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fabric.core.assignment import balance_of
from fabric.core.event import Outcome
from fabric.core.policy import BalanceMode
from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.core.task import Rank, TaskSpec, TaskStatus, path_class
from tests.core.balance_cost import KINDS, lines
from tests.core.cost import lines_of
from tests.core.task_list import RULES, is_shared, task_lists
from tests.support.invariant import check_tasks
from tests.support.random_history import Play, signal


def add(play: Play, *tasks: TaskSpec) -> None:
    for at in range(0, len(tasks), 500):
        told = {"tasks": msgspec.to_builtins([*tasks[at : at + 500]])}
        decision = play.say(signal(SignalType.TASKS_ADDED, "alice", told))
        assert decision.outcome is Outcome.ACCEPTED, decision.reason


def ahead(play: Play, name: str, capacity: int = 1) -> list[str]:
    """Say that an agent has room, and return the tasks that it is offered."""
    play.say(signal(SignalType.EARLY_COMPLETION, name, {"capacity": capacity}, stream=name))
    return play.session.agents.records[name].offers


def start(play: Play, name: str, task: str, **more: Any) -> str:
    """Start a task; return the reason if it is refused."""
    decision = play.say(signal(SignalType.STARTED, name, {"task": task, **more}))
    return decision.reason if decision.outcome is Outcome.REFUSED else ""


def done(play: Play, name: str, task: str) -> None:
    play.say(signal(SignalType.TASK_DONE, name, {"task": task}))


def test_lengths_within_an_eighth_are_of_one_class() -> None:
    classes = [path_class(ms) for ms in range(100_000)]
    assert classes == sorted(classes)
    assert path_class(6_400) == path_class(6_500) < path_class(7_300)
    assert path_class(3_600_000) < path_class(4_200_000)


def test_the_longest_path_goes_first_then_priority_then_order() -> None:
    play = Play(rules=Rules())
    add(
        play,
        TaskSpec("short", estimate_ms=1_000),
        TaskSpec("urgent", estimate_ms=1_000, priority=1),
        TaskSpec("first-of-chain", estimate_ms=1_000, blocks=["behind"]),
        TaskSpec("behind", estimate_ms=60_000),
        TaskSpec("long", estimate_ms=30_000),
    )
    assert ahead(play, "A", 4) == ["first-of-chain", "long", "urgent", "short"]


@given(task_lists(), st.data())
def test_no_two_tasks_run_that_the_rules_keep_apart_and_nobody_is_idle_in_vain(
    tasks: list[TaskSpec], data: st.DataObject
) -> None:
    rules = replace(RULES, parallel_max=data.draw(st.integers(0, 3)), attempts_max=0)
    play = Play(rules=rules)
    add(play, *tasks)
    named = {task.id: task for task in tasks}
    agents = ("A", "B", "C")
    for name in agents:
        ahead(play, name)
    for _ in range(12):
        records = play.session.tasks.records
        running = [one for one in records if records[one].status in ("in_progress", "offered")]
        for one in running:
            for other in running:
                assert one == other or not is_shared(named[one], named[other])
        assert len(running) <= (rules.parallel_max or 3)
        assert len(running) == 1 or not any(one.startswith("rel") for one in running)
        check_tasks(play.session)
        name = data.draw(st.sampled_from(agents))
        agent = play.session.agents.records[name]
        if agent.offers:
            assert start(play, name, agent.offers[0]) == ""
        elif agent.task and data.draw(st.booleans()):
            done(play, name, agent.task)
            ahead(play, name)
        elif agent.task:
            play.say(signal(SignalType.STARTED, name, {}))
        else:
            task = data.draw(st.sampled_from(sorted(records)))
            start(play, name, task)
    # Whatever is left, somebody with room gets all of it in the end.
    for _ in range(4 * len(tasks)):
        for name in agents:
            agent = play.session.agents.records[name]
            for offered in agent.offers[:1]:
                start(play, name, offered)
            if agent.task:
                done(play, name, agent.task)
            if not agent.offers:
                ahead(play, name)
    statuses = {task.status for task in play.session.tasks.records.values()}
    assert statuses <= {TaskStatus.COMPLETED}


@pytest.mark.parametrize(
    ("rules", "running", "task", "reason"),
    [
        (
            Rules(),
            TaskSpec("T1", writes=["a.py"]),
            TaskSpec("T2", reads=["a.py"]),
            "T1 writes a.py (level 2)",
        ),
        (
            Rules(),
            TaskSpec("T1", reads=["src/**"]),
            TaskSpec("T2", writes=["src/a.py"]),
            "T1 reads src/** (level 2)",
        ),
        (
            RULES,
            TaskSpec("T1", writes=["db/x.sql"]),
            TaskSpec("T2", writes=["db/y.sql"]),
            "T1 is at work in db/**, an exclusive domain (level 1)",
        ),
        (
            RULES,
            TaskSpec("rel-1"),
            TaskSpec("T2"),
            "rel-1 integrates release and runs alone (level 3)",
        ),
        (
            RULES,
            TaskSpec("T1"),
            TaskSpec("rel-1"),
            "rel-1 integrates release and runs alone, after T1 (level 3)",
        ),
        (
            Rules(parallel_max=1),
            TaskSpec("T1"),
            TaskSpec("T2"),
            "as many tasks run as tasks.parallel_max allows: 1",
        ),
        (
            replace(RULES, coordinator_tasks_max={"LEAD": 1}),
            TaskSpec("T1", writes=["src/c.py"]),
            TaskSpec("T2", writes=["src/d.py"]),
            "as many tasks of LEAD run as tasks.coordinators allows: 1",
        ),
    ],
    ids=["write-read", "read-write", "domain", "after", "integration", "all", "coordinator"],
)
def test_enforce_refuses_what_cannot_run_beside_others(
    rules: Rules, running: TaskSpec, task: TaskSpec, reason: str
) -> None:
    play = Play(rules=rules)
    add(play, running, task)
    assert start(play, "A", running.id) == ""
    assert start(play, "B", task.id) == f"{task.id} cannot begin now: {reason}"
    assert ahead(play, "C") == []
    # The same agent may go over to it: its own task is not in the way.
    assert start(play, "A", task.id) == ""


def test_observe_tells_the_agent_and_lets_it_begin() -> None:
    play = Play(rules=msgspec.convert({"task_mode": "observe"}, Rules))
    add(play, TaskSpec("T1", writes=["a.py"]), TaskSpec("T2", writes=["a.py"]))
    start(play, "A", "T1")
    decision = play.say(signal(SignalType.STARTED, "B", {"task": "T2"}))
    told = msgspec.json.decode(decision.messages[0].payload)
    assert told == {
        "code": "NOT_READY",
        "reason": "T2 cannot begin now: T1 writes a.py (level 2)",
    }


def test_an_agent_stays_in_its_stream_and_then_helps_the_slowest() -> None:
    play = Play(rules=Rules())
    tasks = [TaskSpec(f"a{n}", stream="A", estimate_ms=1_000) for n in range(2)]
    tasks += [TaskSpec(f"b{n}", stream="B", estimate_ms=1_000) for n in range(3)]
    tasks += [TaskSpec(f"c{n}", stream="C", estimate_ms=1_000) for n in range(4)]
    add(play, *tasks)
    assert ahead(play, "A", 2) == ["a0", "a1"]
    (assign,) = play.say(signal(SignalType.EARLY_COMPLETION, "A", {}, stream="A")).messages
    told = msgspec.json.decode(assign.payload)
    reason = "nobody is at work in stream C, which has 4 s to go"
    assert told == {"task": "c0", "from_stream": "C", "reason": reason}
    # An agent of the stream itself comes before one that helps.
    assert ahead(play, "B") == ["b0"]
    # C has one at work and 4 s to go, B has one and 3 s; then C has two, and 2 s.
    assert ahead(play, "D") == ["c1"]
    assert ahead(play, "E") == ["b1"]


def test_an_agent_whose_task_somebody_else_says_is_done_counts_as_idle() -> None:
    play = Play(rules=Rules())
    add(play, TaskSpec("T1"), TaskSpec("T2"))
    start(play, "A", "T1")
    start(play, "B", "T2")
    ahead(play, "A")
    ahead(play, "B")
    play.say(signal(SignalType.TASK_DONE, "alice", {"task": "T2"}))
    check_tasks(play.session)
    add(play, TaskSpec("T3"))
    assert play.session.agents.records["B"].offers == ["T3"]


def test_what_was_offered_goes_back_when_a_task_before_it_is_done_again() -> None:
    play = Play(rules=Rules())
    add(play, TaskSpec("T1"), TaskSpec("T2", can_merge_after=["T1"]))
    start(play, "A", "T1")
    done(play, "A", "T1")
    assert ahead(play, "B") == ["T2"]
    play.say(signal(SignalType.TASK_RETRY, "alice", {"task": "T1"}))
    assert play.session.agents.records["B"].offers == ["T1"]
    check_tasks(play.session)


def test_a_percentage_that_goes_back_and_forth_is_no_progress() -> None:
    play = Play(rules=Rules())
    add(play, TaskSpec("T1"))
    start(play, "A", "T1")
    for percent, progressed_ms in ((50, 1), (40, 1), (50, 1), (45, 1), (51, 5), (60, 6)):
        play.now_ms += 1_000
        play.say(signal(SignalType.PROGRESS, "A", {"percent": percent}))
        task = play.session.tasks.records["T1"]
        assert task.progress_percent == percent
        assert task.progressed_ms == task.started_ms + progressed_ms * 1_000


def test_with_balance_by_stream_nobody_gets_work_of_another_stream() -> None:
    play = Play(rules=Rules(balance=BalanceMode.STREAM))
    add(play, TaskSpec("b0", stream="B"), TaskSpec("free"))
    assert ahead(play, "A", 5) == ["free"]
    assert ahead(play, "B", 5) == ["b0"]


@pytest.mark.parametrize("shared", [[], ["one.py"], ["db/{n}.sql"]], ids=["own", "one", "domain"])
def test_the_cost_of_an_offer_does_not_grow_with_the_board(shared: list[str]) -> None:
    lines = []
    for count in (100, 3_000):
        play = Play(rules=RULES)
        tasks = [
            TaskSpec(f"t{n}", stream=f"s{n % 9}", writes=[one.format(n=n) for one in shared])
            for n in range(count)
        ]
        add(play, *tasks)
        for number in range(5):
            ahead(play, f"W{number}")
        offered = next(n for n, a in play.session.agents.records.items() if a.offers)
        task = play.session.agents.records[offered].offers[0]
        start(play, offered, task)
        finish = signal(SignalType.TASK_DONE, offered, {"task": task})
        room = signal(SignalType.EARLY_COMPLETION, offered, {})
        lines.append(lines_of(play, finish) + lines_of(play, room))
    assert lines[1] < 1.5 * lines[0] + 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_of_a_signal_is_flat_to_ten_thousand_tasks(kind: str) -> None:
    few, many = (mean(lines(count, KINDS[kind])) for count in (1_000, 10_000))
    assert many < 1.7 * few


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one of 100 files", "two of 100 files"])
def test_the_cost_of_a_signal_does_not_grow_with_the_idle(kind: str) -> None:
    few, many = (mean(lines(1_000, KINDS[kind], agents)) for agents in (200, 2_000))
    assert many < 1.2 * few


def test_a_new_rule_is_in_force_at_once() -> None:
    play = Play(rules=Rules(parallel_max=1))
    add(play, TaskSpec("T1"), TaskSpec("T2"))
    ahead(play, "A")
    assert ahead(play, "B") == []
    play.rules = Rules(parallel_max=2)
    assert ahead(play, "C") == []
    assert play.session.agents.records["B"].offers == ["T2"]
    assert balance_of(play.session, play.rules).rules is play.rules


def test_ranks_name_what_they_order_by() -> None:
    assert Rank(-1, -2, 3, 4, "T").level == (-1, -2)


@pytest.mark.parametrize("percent", [5e-324, 1e-310, 0.05])
def test_progress_of_next_to_nothing_says_nothing_of_the_time_to_go(percent: float) -> None:
    play = Play(rules=Rules())
    add(play, TaskSpec("t", estimate_ms=60_000))
    start(play, "A", "t")
    play.now_ms += 1_000
    said = play.say(signal(SignalType.PROGRESS, "A", {"percent": percent}))
    assert said.outcome is Outcome.ACCEPTED
    assert balance_of(play.session, play.rules).to_go_ms("") == 60_000


def test_a_report_on_a_task_that_its_sender_has_not_begun_is_answered() -> None:
    play = Play(rules=Rules())
    add(play, TaskSpec("T1"), TaskSpec("T2"))
    start(play, "A", "T1")
    play.say(signal(SignalType.STARTED, "B", {}))

    def told(kind: SignalType, name: str, task: str, ms: int = 1_000) -> list[str]:
        play.now_ms += ms
        payload: dict[str, Any] = {"partial": {}} if kind is SignalType.PARTIAL_RESULT else {}
        decision = play.say(replace(signal(kind, name, payload), task=task))
        found = [msgspec.json.decode(one.payload) for one in decision.messages if one.to == name]
        return [one["reason"] for one in found if one.get("code") == "NOT_YOURS"]

    other = "B has not begun T1, which is in progress: A has it, under token 1; "
    nothing = "this report changes nothing of it"
    assert told(SignalType.PROGRESS, "B", "T1") == [other + nothing]
    assert told(SignalType.PROGRESS, "B", "T1", ms=10) == []  # once a second at most
    assert told(SignalType.PARTIAL_RESULT, "B", "T2") == [
        f"B has not begun T2, which is pending; {nothing}"
    ]
    # Words of its own are no task of the board; its own task is its own, also when it is done.
    assert told(SignalType.PROGRESS, "B", "review the code") == []
    assert told(SignalType.PROGRESS, "A", "T1") == []
    done(play, "A", "T1")
    assert told(SignalType.COMPLETED, "A", "T1") == []
    assert told(SignalType.COMPLETED, "B", "T1") == [
        f"B has not begun T1, which is completed; {nothing}"
    ]
