"""Two agents that answer each other forever are stopped, and this is reported."""

from fabric.core.rules import Rules
from tests.end_to_end.crowd import DEMO, inbox, say, settle
from tests.support.daemon import StartDaemon
from tests.support.keyspace import DEAD, SIGNALS, Row, add, rows
from tests.support.servers import RunningServer

HOPS_MAX = Rules().hops_max


def answer(server: RunningServer, name: str, message: Row) -> None:
    """Answer a message with a question, as an agent that follows the protocol does."""
    add(
        server,
        SIGNALS,
        session="demo",
        type="ESCALATE",
        emitter=name,
        hops=message["hops"],
        payload=f'{{"question": "Why?", "to": "{message["from"]}", "wait": false}}',
    )


def test_two_agents_that_answer_each_other_are_stopped(
    server: RunningServer, daemon: StartDaemon
) -> None:
    orchestrator = daemon(server.url)
    say(server, "STARTED", "A", "B")
    say(server, "ESCALATE", "A", question="Why?", to="B", wait=False)
    settle(server, orchestrator)
    heard = {"A": 0, "B": 0}
    turns = 0
    # Each agent answers every new message until there is none; twice the limit is too far.
    while turns < 2 * HOPS_MAX:
        for name in heard:
            new = rows(server, DEMO.inbox(name), type="ESCALATE")[heard[name] :]
            heard[name] += len(new)
            for message in new:
                answer(server, name, message)
            settle(server, orchestrator)
        if [heard[name] for name in heard] == [
            len(rows(server, DEMO.inbox(name), type="ESCALATE")) for name in heard
        ]:
            break
        turns += 1

    assert sum(heard.values()) == HOPS_MAX
    (letter,) = rows(server, DEAD)
    assert (letter["code"], letter["raw.hops"]) == ("HOPS", str(HOPS_MAX))
    assert "answer each other in a loop" in letter["reason"]
    (notice,) = inbox(server, letter["raw.emitter"], "NOTICE")
    assert notice == {"code": "HOPS", "reason": letter["reason"], "refused": "ESCALATE"}
    (refused,) = rows(server, DEMO.log, kind="refused")
    assert refused["code"] == "HOPS"
