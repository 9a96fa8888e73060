"""`fabric why` names the fabric's own questions: nobody produces it, wedged, many are silent."""

from fabric.core.rules import Rules
from tests.ops.logged_session import LoggedSession

HEARTBEAT_S = 5


def beat(told: LoggedSession, names: str, begin_s: int, end_s: int) -> None:
    """Let agents send nothing but heartbeats for a time."""
    for second in range(begin_s, end_s, HEARTBEAT_S):
        told.at(second)
        for name in names:
            told.say(name, "HEARTBEAT")


def test_a_wait_that_nobody_is_to_end_names_the_question_about_it() -> None:
    told = LoggedSession()
    told.say("B", "STARTED")
    told.say("B", "BLOCKED", {"on": "schema"})
    told.at(20)
    told.says("B", "no active agent has declared that it produces schema; this is reported at 0:30")
    told.at(40)
    told.says(
        "B",
        "no active agent has declared that it produces schema",
        "the orchestrator has asked a person, at 0:30 (3-1): "
        '"No active agent has declared that it produces schema; waiting for it: B."',
        "→ to decide: fabric decide 3-1 ANSWER (ANSWER is one of: keep waiting, give up)",
        "It depends on an agent that produces schema: none has declared that it does; "
        "a person: fabric decide 3-1 ANSWER",
    )
    told.say("ann", "DECIDED", {"escalation": "3-1", "decision": "keep waiting"})
    told.says("B", "ann decided at 0:40: keep waiting")
    told.says_not("B", "fabric decide", "has asked a person")


def wedged() -> LoggedSession:
    told = LoggedSession(Rules(wedged_ms_max=60_000, silence_ms_min=20_000))
    told.say("A", "STARTED", {"priority": 1})
    told.say("A", "INTENT", {"writes": ["config.py"]})
    told.at(2)
    told.say("B", "INTENT", {"writes": ["config.py"]})
    beat(told, "AB", 5, 90)
    return told


def test_an_agent_that_only_sends_heartbeats_is_not_called_working() -> None:
    told = wedged()
    told.says(
        "B",
        "It is active, last heard of 0 s ago, with nothing but heartbeats since 0:00",
        "It depends on A, which has sent nothing but heartbeats since 0:00",
    )
    told.says("A", "A waits for nothing; it has sent nothing but heartbeats since 0:00")
    told.says_not("A", "it is working", "decide")


def test_a_wedged_agent_stands_with_the_question_about_it() -> None:
    told = wedged()
    beat(told, "AB", 90, 180)
    question = "→ to decide: fabric decide 52-1 ANSWER (ANSWER is one of: wait, give up)"
    told.says("B", 'the orchestrator has asked a person, at 2:00 (52-1): "A lives, but', question)
    told.says("B", "since 0:00, last heard of 0 s ago; a person: fabric decide 52-1 ANSWER")
    told.says("A", "A lives, but", question)
    told.say("A", "PROGRESS", {"percent": 50})
    told.says_not("B", "heartbeats", "decide")
    told.says("B", "which is working as far as it has reported")


def silent() -> LoggedSession:
    """Four of five agents fall silent; one of them has what the fifth wants."""
    told = LoggedSession(Rules(silence_ms_min=10_000, silence_ms_max=60_000))
    for name in "ABCDE":
        told.say(name, "STARTED")
    told.say("A", "INTENT", {"writes": ["config.py"]})
    told.at(1)
    told.say("B", "INTENT", {"writes": ["config.py"]})
    beat(told, "ABCDE", 2, 30)
    beat(told, "B", 32, 70)
    return told


def test_a_mass_silence_stands_with_the_question_about_it() -> None:
    told = silent()
    (question,) = [id_ for id_, one in told.session.escalations.records.items() if one.is_open]
    told.says("C", f"fabric decide {question} ANSWER (ANSWER is one of: wait, give up)")
    told.says(
        "C",
        f"if it stays silent, it is declared dead if question {question} is decided so, or "
        "before that if others need it",
    )
    told.says("B", "if it stays silent, it is declared dead (after ")
    told.says_not("B", "fabric decide")
    told.say("ann", "DECIDED", {"escalation": question, "decision": "wait"})
    told.says("C", "declared dead (at 2:07: ann has decided to wait until then)")
    told.says_not("C", "fabric decide", "too long since")
