"""`fabric why`: the chain of causes behind an agent's state."""

import json
from typing import Any

import pytest

from tests.support.servers import RunningServer
from tests.support.shell import Shell
from tests.support.waiting import until


def play(shell: Shell, server: RunningServer, session: str, *lines: dict[str, Any]) -> None:
    """Send signals, and wait until all have taken effect."""
    known = int(server.cli("HGET", f"fabric:{{0}}:{session}:meta", "log") or 0)
    shell.good("emit", "-", "-q", given="\n".join(map(json.dumps, lines)))
    count = str(known + len(lines))
    until(lambda: server.cli("HGET", f"fabric:{{0}}:{session}:meta", "log") == count)


@pytest.fixture
def told(shell: Shell, server: RunningServer, session: str) -> Shell:
    """A has a file, and waits for what P makes; B waits for the file."""
    play(
        shell,
        server,
        session,
        {"emitter": "P", "signal": "STARTED", "produces": ["schema"]},
        {"emitter": "A", "signal": "INTENT", "writes": ["config.py"]},
        {"emitter": "A", "signal": "BLOCKED(schema)"},
        {"emitter": "B", "signal": "INTENT", "writes": ["./config.py"]},
    )
    return shell


def test_the_chain_of_causes(told: Shell) -> None:
    out = told.good("why", "B").out
    for sentence in (
        "B is blocked, last heard of ",
        "It depends on P, which is working as far as it has reported, last heard of ",
        "B asked for config.py at 0:00 (4-0) and is next in line",
        "  → continues when A releases it (RELEASE), ends, or is declared dead",
        "  A has held config.py since 0:00 (2-1, token 1). It was told at 0:00 (4-2) that others "
        "wait; it is not known whether it has read that. It is blocked",
        "    A has waited for schema since 0:00 (3-0)",
        "      P has declared that it produces schema. It was told at 0:00 (3-1) that others wait",
        "What happened, newest first",
    ):
        assert sentence in out, out


def test_agents_that_have_read_a_message(told: Shell, server: RunningServer, session: str) -> None:
    cursors = f"fabric:{{0}}:{session}:cursors"
    server.cli("HSET", cursors, "A", "4-2 0-0", "P", "2-0 0-0")
    out = told.good("why", "B").out
    assert "(4-2) that others wait, and has read that" in out
    assert "(3-1) that others wait, and has not read that yet" in out


def test_as_json(told: Shell, session: str) -> None:
    answer = told.good("why", "B", "--json").json
    assert (answer["session"], answer["agent"], answer["status"]) == (session, "B", "blocked")
    (lock,) = answer["causes"]
    assert (lock["kind"], lock["log"]) == ("lock", "4-0")
    (holder,) = lock["children"]
    assert (holder["kind"], holder["agent"]) == ("agent", "A")
    assert holder["children"][0]["kind"] == "dependency"
    assert len(answer["up_to"]) == 1
    assert answer["history"][0]["log"].startswith("4-")


def test_as_it_was(told: Shell) -> None:
    out = told.good("why", "A", "--until", "2-0").out
    assert "A waits for nothing" in out
    assert "A has waited for schema" in told.good("why", "A").out


def test_a_person_is_needed(shell: Shell, server: RunningServer, session: str) -> None:
    question = {"question": "v1\u001b[2J or v2?", "options": ["v1", "v2"]}
    play(shell, server, session, {"emitter": "A", "signal": "ESCALATE", **question})
    out = shell.good("why", "A").out
    assert "It depends on a person: fabric decide 1-0 ANSWER" in out
    assert "\x1b" not in out
    shell.good("decide", "1-0", "v2")
    out = shell.good("why", "A").out
    assert "A waits for nothing" in out
    assert "A gets the answer: v2" in out


def test_an_unknown_agent_or_session(told: Shell) -> None:
    done = told.run("why", "X")
    assert (done.code, done.out) == (3, "")
    assert "no agent X in session" in done.err
    assert "agents: A, B, P" in done.err
    done = told.run("why", "A", "--session", "nothing-there")
    assert (done.code, done.out) == (3, "")
    assert "no session nothing-there" in done.err
    assert told.run("why").code == 2
