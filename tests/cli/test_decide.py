"""`fabric decide`: the checks before an answer is sent, and the wait for its effect."""

import getpass
import json

import pytest

from tests.cli.question_records import QuestionRecords, question_records
from tests.support.forked import Forked
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

#: Many processes; what they show is tested in the library too.
pytestmark = pytest.mark.slow

#: Seconds for a wait that is to end without an answer.
SOON = "1"


@pytest.fixture
def asked(quiet: Shell, server: RunningServer) -> QuestionRecords:
    """An open question with options, for which A and B wait, in session s."""
    asked = question_records(quiet, server)
    asked.put("s", "7-0", options=["v1", "v2"], waiting=["A", "B"])
    return asked


def sent(asked: QuestionRecords, count: int = 1) -> None:
    until(lambda: len(asked.sent()) == count, "the answers are in the ingress")


def decide(shell: Shell, asked: QuestionRecords, *words: str) -> Forked:
    """Start the command; return when its answer is in the ingress."""
    before = len(asked.sent())
    process = shell.start("decide", *words)
    sent(asked, before + 1)
    return process


def test_an_answer_counts_once_it_is_recorded(quiet: Shell, asked: QuestionRecords) -> None:
    process = decide(quiet, asked, "7-0", "v1", "--by", "anna")
    (entry,) = asked.sent()
    payload = json.loads(entry.pop("payload"))
    assert entry == {"type": "DECIDED", "session": "s", "emitter": "anna"}
    assert payload == {"escalation": "7-0", "decision": "v1", "by": "anna"}
    asked.decide("s", "7-0", "v1", "anna", waiting=["A", "B"])
    assert end(process) == (0, "7-0: v1 (told: A, B)\n", "")


def test_json(quiet: Shell, asked: QuestionRecords) -> None:
    process = decide(quiet, asked, "7-0", "v1", "--by", "anna", "--json")
    asked.decide("s", "7-0", "v1", "anna", decided_ms=5)
    assert json.loads(end(process).out) == {
        "session": "s",
        "id": "7-0",
        "decision": "v1",
        "by": "anna",
        "decided_ms": 5,
        "told": ["A", "B"],
    }


def test_the_decider_is_the_person_not_the_agent(quiet: Shell, asked: QuestionRecords) -> None:
    name = getpass.getuser()
    process = decide(quiet, asked, "7-0", "v1")
    assert asked.sent()[0]["emitter"] == name
    asked.decide("s", "7-0", "v1", name)
    assert end(process).code == 0


def test_a_name_is_made_safe(quiet: Shell, asked: QuestionRecords) -> None:
    process = decide(quiet, asked, "7-0", "v1", "--by", " an\x1bna\n")
    assert asked.sent()[0]["emitter"] == "an·na·"
    asked.decide("s", "7-0", "v1", "an·na·")
    assert end(process).code == 0
    done = quiet.run("decide", "7-0", "v1", "--by", " ")
    assert (done.code, done.out) == (2, "")
    assert "name yourself with --by" in done.err


def test_the_name_of_an_agent_is_refused(
    quiet: Shell, asked: QuestionRecords, server: RunningServer
) -> None:
    agent = json.dumps({"status": "completed", "incarnation": 1})
    server.cli("HSET", f"{asked.namespace}:{{0}}:s:agents", "B", agent)
    done = quiet.run("decide", "7-0", "v1", "--by", "B")
    assert (done.code, done.out) == (2, "")
    assert "B is an agent of session s: name yourself with --by" in done.err
    assert asked.sent() == []
    asked.put("s", "8-0", to="B")
    process = decide(quiet, asked, "8-0", "yes", "--by", "B")
    asked.decide("s", "8-0", "yes", "B")
    assert end(process).code == 0


def test_an_unknown_question(quiet: Shell, asked: QuestionRecords) -> None:
    done = quiet.run("decide", "8-0", "v1")
    assert (done.code, done.out) == (3, "")
    assert done.err == "fabric: no question 8-0 in session s: open are 7-0\n"
    done = quiet.run("decide", "7-0", "v1", "-s", "nowhere")
    assert done.code == 3
    assert "no session nowhere" in done.err
    assert asked.sent() == []


def test_a_question_that_is_decided(quiet: Shell, asked: QuestionRecords) -> None:
    asked.decide("s", "7-0", "v2\x1b", "anna")
    done = quiet.run("decide", "7-0", "v1")
    assert (done.code, done.out) == (4, "")
    assert done.err == (
        "fabric: question 7-0 was decided by anna at 2026-01-02T03:05:05Z: 'v2\\x1b'\n"
    )
    assert asked.sent() == []


def test_an_answer_that_is_not_an_option(quiet: Shell, asked: QuestionRecords) -> None:
    done = quiet.run("decide", "7-0", "v3")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "fabric: 'v3' is not one of the answers to 7-0, which are 'v1', 'v2'; "
        "--free allows another answer\n"
    )
    assert quiet.run("decide", "7-0", " ", "--free").code == 2
    assert asked.sent() == []
    process = decide(quiet, asked, "7-0", "v3", "--free", "--by", "anna")
    asked.decide("s", "7-0", "v3", "anna")
    assert end(process).code == 0


def test_the_first_answer_wins(quiet: Shell, asked: QuestionRecords) -> None:
    first = decide(quiet, asked, "7-0", "v1", "--by", "anna")
    second = decide(quiet, asked, "7-0", "v2", "--by", "bert")
    third = decide(quiet, asked, "7-0", "v1", "--by", "carl")
    asked.decide("s", "7-0", "v1", "anna")
    assert end(first).code == 0
    for process in (second, third):
        done = end(process)
        assert (done.code, done.out) == (4, "")
        assert "somebody was quicker: question 7-0 was decided by anna at " in done.err
        assert done.err.endswith(": 'v1'\n")


def test_a_question_that_is_asked_again_meanwhile(quiet: Shell, asked: QuestionRecords) -> None:
    process = decide(quiet, asked, "7-0", "v1")
    asked.put("s", "7-0", cause="another")
    done = end(process)
    assert (done.code, done.out) == (4, "")
    assert "question 7-0 was closed meanwhile" in done.err


def test_an_answer_that_is_refused(
    quiet: Shell, asked: QuestionRecords, server: RunningServer
) -> None:
    process = decide(quiet, asked, "7-0", "v1")
    dead, signals = (f"{asked.namespace}:{{0}}:{name}" for name in ("dead", "signals"))
    server.cli("XADD", dead, "*", "id", "1-1", "reason", "another's")
    ((entry_id, _),) = server.cli("XRANGE", signals, "-", "+")
    results = signals.replace("signals", "results")
    server.cli("XADD", dead, "*", "source", results, "id", entry_id, "reason", "a result")
    why = ("reason", "the session is closed")
    server.cli("XADD", dead, "*", "source", signals, "id", entry_id, *why)
    done = end(process)
    assert (done.code, done.out) == (4, "")
    assert done.err == "fabric: the answer to 7-0 was refused: the session is closed\n"


def test_an_answer_that_nobody_handles(quiet: Shell, asked: QuestionRecords) -> None:
    done = quiet.run("decide", "7-0", "v1", "--timeout", SOON)
    assert (done.code, done.out) == (7, "")
    assert "the answer to 7-0 was sent, and after 1 s the question is still open" in done.err
    assert "no orchestrator has handled it yet; is one running?" in done.err
    assert len(asked.sent()) == 1


def test_an_answer_that_changes_nothing(
    quiet: Shell, asked: QuestionRecords, server: RunningServer
) -> None:
    server.cli("HSET", f"{asked.namespace}:{{0}}:lease", "committed", "9999999999999-0")
    done = quiet.run("decide", "7-0", "v1", "--timeout", SOON)
    assert (done.code, done.out) == (7, "")
    assert "the orchestrator has handled the answer and not accepted it" in done.err


def test_without_a_session_all_are_searched(quiet: Shell, asked: QuestionRecords) -> None:
    del quiet.variables["FABRIC_SESSION"]
    asked.decide("t", "7-0", "v2", "anna")
    asked.put("t", "9-0")
    process = decide(quiet, asked, "7-0", "v1", "--by", "anna")
    assert asked.sent()[0]["session"] == "s"
    asked.decide("s", "7-0", "v1", "anna")
    assert end(process).code == 0
    assert quiet.run("decide", "8-0", "v1").code == 3
    asked.put("s", "9-0")
    done = quiet.run("decide", "9-0", "v1")
    assert (done.code, done.out) == (2, "")
    assert "several sessions have a question 9-0: name one of " in done.err


def test_the_answer_reaches_the_asker_and_all_that_wait(shell: Shell) -> None:
    shell.good("emit", "ESCALATE", "question=Which schema?", 'options=["v1","v2"]', "id=which")
    shell.good("emit", "BLOCKED(which)", FABRIC_AGENT="B", FABRIC_STREAM="B")
    until(lambda: waiting(shell) == ["B"], "B waits for the answer")
    people = [
        shell.start("decide", "which", answer, "--by", who, "--json")
        for answer, who in (("v1", "anna"), ("v2", "bert"))
    ]
    first, second = sorted(map(end, people))
    assert (first.code, second.code) == (0, 4)
    assert first.json["told"] == ["A", "B"]
    assert f"was decided by {first.json['by']} at " in second.err
    answer = {name: first.json[name] for name in ("decision", "by")}
    for agent in ("A", "B"):
        messages = shell.good("inbox", "--json", FABRIC_AGENT=agent).json_lines
        (payload,) = [one["payload"] for one in messages if one["type"] == "DECISION"]
        assert payload == {"escalation": "which", **answer}


def waiting(shell: Shell) -> list[str]:
    done = shell.run("escalations", "--json")
    return list(done.json_lines[0]["waiting"]) if done.out else []
