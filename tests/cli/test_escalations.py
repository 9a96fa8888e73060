"""`fabric escalations`: open questions, the agents that wait, and the commands that answer."""

import json

import pytest

from tests.cli.question_records import ASKED_MS, QuestionRecords, question_records
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end, is_following
from tests.support.waiting import until


@pytest.fixture
def asked(quiet: Shell, server: RunningServer) -> QuestionRecords:
    """Two open questions and a decided one in session s, one in session t."""
    asked = question_records(quiet, server)
    asked.put("s", "new", asked_ms=ASKED_MS + 2000, waiting=["B", "A"], options=["v1", "v2"])
    asked.put("s", "old", asked_ms=ASKED_MS, context={"paths": ["a.py"]}, subject="deadlock")
    asked.decide("s", "done", "v2", "anna", asked_ms=ASKED_MS - 1000)
    asked.put("t", "7-0", asked_ms=ASKED_MS + 1000, to="LEAD")
    return asked


def ids(shell: Shell, *words: str) -> list[str]:
    return [row["id"] for row in shell.good("escalations", *words, "--json").json_lines]


def test_the_oldest_comes_first(quiet: Shell, asked: QuestionRecords) -> None:
    assert ids(quiet) == ["old", "new"]
    assert ids(quiet, "--all") == ["done", "old", "new"]
    assert ids(quiet, "t") == ["7-0"]
    assert ids(quiet, "--session", "t") == ["7-0"]


def test_all_sessions(quiet: Shell, asked: QuestionRecords) -> None:
    del quiet.variables["FABRIC_SESSION"]
    rows = quiet.good("escalations", "--json").json_lines
    assert [(row["session"], row["id"]) for row in rows] == [
        ("s", "old"),
        ("t", "7-0"),
        ("s", "new"),
    ]
    lines = quiet.good("escalations").lines
    assert "  answer:   fabric decide --session t 7-0 ANSWER" in lines


def test_output_for_people(quiet: Shell, asked: QuestionRecords) -> None:
    lines = quiet.good("escalations", "--all").lines
    blank = lines.index("")
    done, rest = lines[:blank], lines[blank + 1 :]
    assert done[0].startswith("done  in s, asked ")
    assert done[0].endswith(" ago by A")
    assert done[1:] == [
        "  Which schema?",
        "  decided:  v2",
        "            by anna, 2026-01-02T03:05:05Z",
    ]
    blank = rest.index("")
    old, new = rest[:blank], rest[blank + 1 :]
    assert old[0].endswith(" ago by A (deadlock)")
    assert old[1:] == [
        "  Which schema?",
        "  context:  {",
        '              "paths": [',
        '                "a.py"',
        "              ]",
        "            }",
        "  waiting:  A",
        "  answer:   fabric decide old ANSWER",
    ]
    assert new[1:] == [
        "  Which schema?",
        "  options:  v1",
        "            v2",
        "  waiting:  A, B",
        "  answer:   fabric decide new ANSWER",
    ]


def test_the_answer_command_works_where_it_is_pasted(quiet: Shell, asked: QuestionRecords) -> None:
    assert "  asked of: LEAD" in quiet.good("escalations", "t").lines
    for words in (("t",), ("-s", "t")):
        last = quiet.good("escalations", *words).lines[-1]
        assert last == "  answer:   fabric decide --session t 7-0 ANSWER"
    asked.put("u", "-x; y")
    last = quiet.good("escalations", FABRIC_SESSION="u").lines[-1]
    assert last == "  answer:   fabric decide -- '-x; y' ANSWER"


def test_json_has_all(quiet: Shell, asked: QuestionRecords) -> None:
    rows = quiet.good("escalations", "--json").json_lines
    expected = {
        "session": "s",
        "id": "old",
        "state": "open",
        "question": "Which schema?",
        "asker": "A",
        "options": [],
        "context": {"paths": ["a.py"]},
        "to": "",
        "asked_ms": ASKED_MS,
        "waiting": [],
        "subject": "deadlock",
        "decision": "",
        "by": "",
        "decided_ms": 0,
    }
    assert expected.items() <= rows[0].items()
    assert rows[1]["context"] is None


def test_a_question_of_the_orchestrator(quiet: Shell, server: RunningServer) -> None:
    question_records(quiet, server).put("s", "9-1", asker="", subject="silence", about="QA")
    lines = quiet.good("escalations").lines
    assert lines[0].endswith(" ago by ORCHESTRATOR (silence: QA)")
    assert lines[1:] == ["  Which schema?", "  answer:   fabric decide 9-1 ANSWER"]


def test_a_digest_names_what_is_not_asked_by_itself(quiet: Shell, server: RunningServer) -> None:
    asked = question_records(quiet, server)
    own = {"asker": "", "subject": "contradiction", "named_ms": ASKED_MS}
    for key in ("host", "my port"):
        text, id_ = f"findings:{key}: A says 1; B says 2. Whose value holds?", f"findings:{key}"
        asked.put("s", id_, question=text, options=["A", "B x"], digest="9-1", **own)
    asked.put("s", "findings:left", digest="3-1", **own)
    digest = {"asker": "", "subject": "digest", "options": ["leave"]}
    asked.put("s", "9-1", question="2 contradictions", context={"questions": []}, **digest)
    done = quiet.good("escalations")
    assert done.lines[0].startswith("9-1  in s, asked ")
    assert done.lines[1:] == [
        "  2 contradictions",
        "  - findings:host: A says 1; B says 2. Whose value holds?",
        "    fabric decide findings:host A | 'B x'",
        "  - findings:my port: A says 1; B says 2. Whose value holds?",
        "    fabric decide 'findings:my port' A | 'B x'",
        "  options:  leave",
        "  all:      fabric decide --all '*' --prefer confidence",
        "  answer:   fabric decide 9-1 ANSWER",
    ]
    assert not done.err
    assert ids(quiet) == ["9-1"]
    assert len(ids(quiet, "--all")) == 4
    # Decided since, or decided alone: what is named is what is open.
    asked.decide(
        "s", "findings:host", "A", "ann", subject="contradiction", named_ms=1, digest="9-1"
    )
    assert not any("findings:host" in line for line in quiet.good("escalations").lines)


def test_what_agents_may_still_settle_is_not_asked(quiet: Shell, server: RunningServer) -> None:
    asked = question_records(quiet, server)
    own = {"asker": "", "subject": "contradiction", "named_ms": ASKED_MS + 60_000}
    asked.put("s", "findings:port", options=["A", "B"], **own)
    done = quiet.run("escalations")
    assert done.err == (
        "fabric: no open questions\n"
        "fabric: 1 contradiction that agents may still settle: nobody is asked yet (--all)\n"
    )
    lines = quiet.good("escalations", "--all").lines
    assert "  named by: no digest yet, but by one after 2026-01-02T03:05:05Z" in lines


def test_a_question_is_cut_and_moves_no_terminal(quiet: Shell, server: RunningServer) -> None:
    asked = question_records(quiet, server)
    # Bells too: of escape sequences alone a pipe is spared anyway.
    context = {"\x9b": "\x9b" * 1000, "lines": ["\x1b[2J\x9b"] * 20}
    asked.put("s", "q", question="\x1b[2J\a?\n" * 20, options=["\x1b\a"], context=context)
    done = quiet.good("escalations")
    assert done.out.replace("\n", "").isprintable()
    assert [line for line in done.lines if "more lines (--json)" in line] == [
        "  … 12 more lines (--json)",
        "            … 17 more lines (--json)",
    ]
    assert max(map(len, done.lines)) < 250
    (row,) = quiet.good("escalations", "--json").json_lines
    assert row["context"] == context


def test_no_questions(quiet: Shell, server: RunningServer) -> None:
    asked = question_records(quiet, server)
    asked.decide("s", "done", "v2", "anna")
    done = quiet.run("escalations")
    assert (done.code, done.out, done.err) == (0, "", "fabric: no open questions\n")
    assert ids(quiet, "--all") == ["done"]
    done = quiet.run("escalations", "nowhere")
    assert (done.code, done.out) == (3, "")
    assert "no session nowhere" in done.err


def test_a_record_written_by_hand(
    quiet: Shell, asked: QuestionRecords, server: RunningServer
) -> None:
    server.cli("HSET", f"{asked.namespace}:{{0}}:s:escalations", "x", "no JSON")
    done = quiet.run("escalations")
    assert (done.code, done.out) == (6, "")
    assert "did not write" in done.err


def test_follow_shows_each_question_once(
    quiet: Shell, asked: QuestionRecords, server: RunningServer
) -> None:
    process = quiet.start("escalations", "--follow", "--all", "--json")
    assert process.stdout is not None

    def read() -> list[str]:
        assert process.stdout is not None
        row = json.loads(process.stdout.readline())
        return [row["id"], row["state"]]

    assert [read() for _ in range(3)] == [["done", "decided"], ["old", "open"], ["new", "open"]]
    asked.put("s", "newer")
    assert read() == ["newer", "open"]
    asked.decide("s", "old", "v1", "anna", cause="old/cause")
    assert read() == ["old", "decided"]
    asked.put("s", "old", cause="asked again")
    assert read() == ["old", "open"]
    asked.put("s", "new", cause="decided and asked again, both unseen")
    assert read() == ["new", "open"]
    process.terminate()
    assert end(process) == (143, "", "")


def test_follow_of_open_questions_leaves_out_the_decided(
    quiet: Shell, asked: QuestionRecords, server: RunningServer
) -> None:
    process = quiet.start("escalations", "t", "--follow", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == "7-0"
    until(lambda: is_following(server))
    asked.decide("t", "7-0", "v1", "anna")
    asked.put("t", "9-0")
    assert json.loads(process.stdout.readline())["id"] == "9-0"
    process.terminate()
    assert end(process) == (143, "", "")


def test_follow_needs_a_session(quiet: Shell) -> None:
    del quiet.variables["FABRIC_SESSION"]
    done = quiet.run("escalations", "--follow")
    assert (done.code, done.out) == (2, "")
    assert "no session" in done.err
