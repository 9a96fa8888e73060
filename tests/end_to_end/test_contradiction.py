"""Two agents contradict each other: both hear of it while they run, and a person decides."""

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.crowd import DEMO, inbox, say
from tests.end_to_end.reporters import StartReporter, reporter
from tests.end_to_end.synthesized import check_revisions, document, is_folded
from tests.support.daemon import Daemon, StartDaemon
from tests.support.keyspace import DEAD, records, rows
from tests.support.servers import RunningServer
from tests.support.shell import Done, Shell
from tests.support.waiting import until

__all__ = ["reporter"]

#: The part that these agents report on; the question about it has the same name.
PORT = "findings:port"


@pytest.fixture
def workers(server: RunningServer, daemon: StartDaemon) -> list[Daemon]:
    """Start both workers as processes."""
    return [daemon(server.url, worker=name) for name in ("orchestrator", "synthesizer")]


def settle(server: RunningServer, workers: list[Daemon]) -> None:
    """Wait until all signals have taken effect, in the synthesis too."""
    until(lambda: is_folded(server), lambda: "\n".join(one.said() for one in workers))


def find(server: RunningServer, agent: str, value: Any, **more: Any) -> None:
    """XADD one finding about the port."""
    finding = {"key": "port", "value": value, **more}
    say(server, "PARTIAL_RESULT", agent, partial={"findings": [finding]})


def withdraw(server: RunningServer, agent: str) -> None:
    """XADD that an agent withdraws its finding about the port."""
    finding = {"key": "port", "withdrawn": True}
    say(server, "PARTIAL_RESULT", agent, partial={"findings": [finding]})


def contradict(server: RunningServer, workers: list[Daemon]) -> None:
    """Have A and B, both running, give different values."""
    say(server, "STARTED", "A", "B")
    find(server, "A", 6379, confidence=0.9)
    find(server, "B", 6380)
    settle(server, workers)


def decide(server: RunningServer, folder: Path, agent: str) -> Done:
    """Decide as a person would: `fabric decide`, as a process."""
    shell = Shell(folder, {"FABRIC_REDIS_URL": server.url, "FABRIC_CONFIG": "/dev/null"})
    return shell.run("decide", PORT, agent, "--session", "demo", "--by", "Ann")


def question(server: RunningServer) -> Any:
    return records(server, DEMO.escalations)[PORT]


def port(server: RunningServer) -> Any:
    return document(server, DEMO)["findings"]["port"]


def says(server: RunningServer) -> dict[str, str]:
    """Return the state of each agent's last finding about the port."""
    return {
        agent: statements[0].get("standing", "holds")
        for agent, statements in port(server)["said"].items()
    }


def values(told: dict[str, Any]) -> dict[str, Any]:
    """Return each agent's value in a CONFLICT_DETECTED."""
    return {agent: one["value"] for one in told["values"] for agent in one["agents"]}


def test_both_agents_hear_of_it_while_they_run_and_a_person_decides(
    server: RunningServer, workers: list[Daemon], reporter: StartReporter, tmp_path: Path
) -> None:
    agents = [reporter(server.url, name) for name in ("A", "B")]
    agents[0].finds("port", 6379, confidence=0.9, evidence="redis.conf:12")
    agents[1].finds("port", 6380, evidence="compose.yaml:7")

    for one in agents:
        told = one.hears("CONFLICT_DETECTED")
        assert (told["kind"], told["part"], told["resources"]) == ("finding", PORT, ["port"])
        assert sorted(told["agents"]) == ["A", "B"]
        assert values(told) == {"A": 6379, "B": 6380}
        evidence = {rival["agents"][0]: rival["evidence"] for rival in told["values"]}
        assert evidence == {"A": "redis.conf:12", "B": "compose.yaml:7"}
    settle(server, workers)
    assert [len(one.heard("CONFLICT_DETECTED")) for one in agents] == [1, 1]
    assert port(server)["state"] == "contradicted"
    assert list(document(server, DEMO)["contradictions"]) == [PORT]
    assert sorted(question(server)["options"]) == ["A", "B"]

    done = decide(server, tmp_path, "B")
    assert done.code == 0, done
    for one in agents:
        assert one.hears("DECISION") == {"escalation": PORT, "decision": "B", "by": "Ann"}
    settle(server, workers)
    assert (question(server)["state"], question(server)["by"]) == ("decided", "Ann")
    check_decided(server)

    for one in agents:
        one.end()
    settle(server, workers)
    check_decided(server)
    until(lambda: document(server, DEMO)["complete"]["final"], "the run has settled")
    check_history(server)


def test_xadd_and_xrange_are_enough(server: RunningServer, workers: list[Daemon]) -> None:
    contradict(server, workers)
    for name in ("A", "B"):
        (told,) = rows(server, DEMO.inbox(name))
        assert (told["type"], told["from"]) == ("CONFLICT_DETECTED", "SYNTHESIZER")
        assert values(told.payload) == {"A": 6379, "B": 6380}
    asked = question(server)
    assert asked["question"] == (
        "findings:port: A says 6379 (90% sure); B says 6380. Whose value holds?"
    )

    say(server, "DECIDED", "Ann", escalation=PORT, decision="B")
    settle(server, workers)
    for name in ("A", "B"):
        (answer,) = inbox(server, name, "DECISION")
        assert answer == {"escalation": PORT, "decision": "B", "by": "Ann"}
    check_decided(server)
    check_history(server)
    assert rows(server, DEAD) == []


def check_decided(server: RunningServer) -> None:
    """Check that the document shows the chosen value, who decided, and the other values."""
    found = port(server)
    assert (found["state"], found["value"]) == ("decided", 6380)
    assert (found["verdict"]["decision"], found["verdict"]["by"]) == ("B", "Ann")
    assert says(server) == {"A": "rejected", "B": "holds"}
    assert found["said"]["A"][0]["value"] == 6379
    assert document(server, DEMO)["contradictions"] == {}
    assert document(server, DEMO)["complete"]["contradictions"] == 0


def check_history(server: RunningServer) -> None:
    """Check that the revisions show the contradiction, and then no contradiction."""
    found = [row["patch"] for row in check_revisions(server, DEMO)]
    (opened,) = [n for n, patch in enumerate(found) if '"values":' in patch]
    (closed,) = [n for n, patch in enumerate(found) if '"op":"remove"' in patch]
    assert opened < closed


def test_withdrawing_closes_it(server: RunningServer, workers: list[Daemon]) -> None:
    contradict(server, workers)
    withdraw(server, "A")
    settle(server, workers)
    check_closed(server, "withdrawn")
    assert (port(server)["state"], port(server)["value"]) == ("agreed", 6380)
    assert port(server)["said"]["A"][1]["value"] == 6379


def test_agreeing_closes_it(server: RunningServer, workers: list[Daemon]) -> None:
    contradict(server, workers)
    find(server, "B", 6379)
    settle(server, workers)
    check_closed(server, "agreed")
    assert (port(server)["state"], port(server)["value"]) == ("agreed", 6379)
    assert says(server) == {"A": "holds", "B": "holds"}


def test_a_superseding_finding_closes_it(server: RunningServer, workers: list[Daemon]) -> None:
    contradict(server, workers)
    ports = {"key": "ports", "value": [6379, 6380], "supersedes": ["port"]}
    say(server, "PARTIAL_RESULT", "A", partial={"findings": [ports]})
    settle(server, workers)
    check_closed(server, "superseded")
    assert port(server)["state"] == "superseded"
    assert says(server) == {"A": "superseded", "B": "superseded"}
    assert document(server, DEMO)["findings"]["ports"]["value"] == [6379, 6380]


def check_closed(server: RunningServer, how: str) -> None:
    """Check that both agents are told how it ended, and that no question is left."""
    for name in ("A", "B"):
        (answer,) = inbox(server, name, "DECISION")
        assert answer == {"escalation": PORT, "decision": how, "by": "SYNTHESIZER"}
    assert question(server)["state"] == "decided"
    assert document(server, DEMO)["contradictions"] == {}
    check_history(server)


def test_a_new_value_asks_again(server: RunningServer, workers: list[Daemon]) -> None:
    contradict(server, workers)
    say(server, "DECIDED", "Ann", escalation=PORT, decision="B")
    settle(server, workers)
    say(server, "STARTED", "C")
    find(server, "C", 6379)
    settle(server, workers)
    assert port(server)["state"] == "decided", "what was rejected is no news from anybody"

    find(server, "C", 7000)
    settle(server, workers)
    assert port(server)["state"] == "contradicted"
    (contradiction,) = document(server, DEMO)["contradictions"].values()
    assert sorted(one["value"] for one, *_ in contradiction["values"]) == [6380, 7000]
    assert question(server)["state"] == "open"
    assert sorted(question(server)["options"]) == ["B", "C"]
    (told,) = inbox(server, "C", "CONFLICT_DETECTED")
    assert values(told) == {"B": 6380, "C": 7000}

    say(server, "DECIDED", "Ann", escalation=PORT, decision="C")
    settle(server, workers)
    assert (port(server)["state"], port(server)["value"]) == ("decided", 7000)
    assert says(server) == {"A": "rejected", "B": "rejected", "C": "holds"}
    check_revisions(server, DEMO)


def test_all_are_decided_for_the_surest_agent(
    server: RunningServer, workers: list[Daemon], tmp_path: Path
) -> None:
    say(server, "STARTED", "A", "B")
    for key, sure in (("port", 0.9), ("host", 0.1), ("user", 0.5)):
        for agent, confidence in (("A", sure), ("B", 0.5)):
            finding = {"key": key, "value": agent, "confidence": confidence}
            say(server, "PARTIAL_RESULT", agent, partial={"findings": [finding]})
    settle(server, workers)
    shell = Shell(tmp_path, {"FABRIC_REDIS_URL": server.url, "FABRIC_CONFIG": "/dev/null"})
    done = shell.run(
        *("decide", "--all", "findings:*", "--prefer", "confidence", "--session", "demo"),
        *("--by", "Ann"),
    )
    assert done.code == 0, done
    settle(server, workers)
    found = {key: one.get("value") for key, one in document(server, DEMO)["findings"].items()}
    assert found == {"port": "A", "host": "B", "user": None}
    assert list(document(server, DEMO)["contradictions"]) == ["findings:user"]
    assert "findings:user stays open" in done.err
    assert shell.run("decide", PORT, "--all", "*", "--session", "demo").code == 2


def test_an_agent_that_has_ended_is_not_told(server: RunningServer, workers: list[Daemon]) -> None:
    say(server, "STARTED", "A", "B")
    find(server, "A", 6379)
    say(server, "COMPLETED", "A")
    find(server, "B", 6380)
    settle(server, workers)
    assert rows(server, DEMO.inbox("A")) == []
    (told,) = inbox(server, "B", "CONFLICT_DETECTED")
    assert values(told) == {"A": 6379, "B": 6380}
    assert question(server)["state"] == "open"


@pytest.mark.parametrize("name", ["ORCHESTRATOR", "SYNTHESIZER"])
def test_no_agent_has_a_name_under_which_the_fabric_sends(
    server: RunningServer, workers: list[Daemon], name: str
) -> None:
    say(server, "STARTED", "A")
    say(server, "STARTED", name)
    find(server, name, 6379)
    find(server, "A", 6380)
    settle(server, workers)
    assert [*records(server, DEMO.agents)] == ["A"]
    assert [dead["code"] for dead in rows(server, DEAD)] == ["NAME", "NAME"]
