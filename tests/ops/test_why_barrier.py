"""`fabric why` at a barrier: the missing agents, the leader, and the deadline."""

from fabric.core.policy import BarrierPolicy
from fabric.core.rule_table import Trigger
from fabric.core.rules import Rules
from tests.ops.logged_session import LoggedSession


def gathering(policy: BarrierPolicy = BarrierPolicy.WAIT) -> LoggedSession:
    """L has called a barrier; A and B have arrived, C is dead without a word, J came late."""
    told = LoggedSession(Rules(barrier_policy=policy))
    for name in "LABC":
        told.say(name, "STARTED")
    told.at(10)
    told.say("L", "INTEGRATION_REQUIRED", {"name": "release", "deadline_ms": 30_000})
    told.at(12)
    for name in "AB":
        told.say(name, "CHECKPOINT_REACHED", {"checkpoint": "done"})
    told.say("J", "STARTED")
    return told


def test_a_barrier_before_its_deadline() -> None:
    told = gathering()
    told.says(
        "A",
        "A is paused",
        "A arrived at the barrier release at 0:12 and is held there (called by L at 0:10 (5-0)); "
        "2 of 3 have arrived, missing: C",
        "→ continues when C reaches a checkpoint (CHECKPOINT_REACHED), begins to wait, ends, "
        "or is declared dead (after 10 min of silence, at 10:00); and L has integrated",
        "C has not arrived. It was told of the barrier at 0:10 (5-2); it is not known whether",
        "the deadline is 0:40: then the missing agents are named, and a person is asked",
    )
    told.says("J", "J started while the barrier release was in force, and is held until it ends")
    told.says("C", "C waits for nothing", "A, B wait for it at the barrier release")
    told.cursors["C"] = b"0-0 5-2"
    told.says("A", "told of the barrier at 0:10 (5-2), and has read that")


def test_a_barrier_past_its_deadline_with_a_killed_agent() -> None:
    told = gathering()
    told.at(41)
    asked = "a person: fabric decide 9-1 ANSWER (ANSWER is one of: wait, release, fail)"
    told.says(
        "A",
        "It depends on C, which is working as far as it has reported, last heard of 41 s ago; "
        + asked,
    )
    told.says(
        "L",
        "L leads the barrier release and waits until all have arrived",
        'the orchestrator has asked a person, at 0:40 (9-1): "The deadline of barrier '
        "release has passed without C.",
    )
    told.at(590)
    for name in ("A", "B", "L"):
        told.say(name, "HEARTBEAT", {})
    told.at(601)
    told.says("C", "C was declared dead at 10:00", "silent for 600 s")
    told.says("A", "all have arrived; L has been integrating since")


def test_a_barrier_that_continues_without_the_missing_agents() -> None:
    told = gathering(BarrierPolicy.RELEASE)
    told.says("A", "then the missing agents are named, and the others continue without them")
    told.at(41)
    told.says(
        "A",
        "→ continues when L sends INTEGRATED, or ends",
        "all have arrived; L has been integrating since 0:40",
    )
    told.say("L", "INTEGRATED", {"name": "release"})
    told.says("A", "A waits for nothing", "all continue: the integration release is over")


def test_two_barriers() -> None:
    told = gathering()
    told.say("B", "INTEGRATION_REQUIRED", {"name": "next"})
    told.says(
        "B",
        "B called the barrier next at 0:12 (9-0); release comes before it",
        "→ begins when release is over",
        "B waits for more than one thing: it continues when all of these waits are over",
    )


def test_the_decision_at_the_deadline() -> None:
    told = gathering()
    told.at(41)
    told.say("HUMAN", "DECIDED", {"escalation": "9-1", "decision": "wait", "by": "anna"})
    told.says("A", "the deadline was 0:40; anna decided at 0:41: wait")
    told.says_not("A", "a person:")


def test_a_barrier_of_the_rule_file() -> None:
    told = LoggedSession(Rules(triggers=(Trigger("migration", tags=("schema",)),)))
    for name in "ABC":
        told.say(name, "STARTED")
    told.say("A", "DEPENDENCY_RESOLVED", {"dependency_id": "schema"})
    told.say("A", "CHECKPOINT_REACHED", {"checkpoint": "c"})
    told.says(
        "A",
        "is held there (called by the rule file at 0:00 (5-0)); 1 of 3 have arrived, missing: B, C",
        "continues when B, C reaches a checkpoint (CHECKPOINT_REACHED), begins to wait, ends\n",
    )


def test_a_leader_that_calls_the_next_barrier() -> None:
    told = gathering()
    told.say("C", "CHECKPOINT_REACHED", {"checkpoint": "done"})
    told.say("L", "INTEGRATION_REQUIRED", {"name": "next"})
    told.says(
        "L",
        "L waits for nothing: it is working",
        "L is told: next begins when release is over",
        "L integrates release",
    )


def test_a_free_resource_while_the_leader_integrates() -> None:
    told = gathering()
    told.say("C", "CHECKPOINT_REACHED", {"checkpoint": "done"})
    told.at(15)
    told.say("A", "INTENT", {"writes": ["a.py"]})
    told.says(
        "A",
        "L integrates release: nobody else is granted anything until then",
        "→ continues when L has integrated release (INTEGRATED)",
    )
