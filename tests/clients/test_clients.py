"""The real clients, each with our hooks, against a real server and orchestrator.

The model is scripted, so each client does what the test says. `QA` is an agent of the test itself.
"""

import json
import os
import signal
import sys
from typing import Any

import pytest

from fabric import SyncFabric
from fabric.core.record import AgentStatus, ClaimState
from fabric.core.signal import SignalType
from fabric.wire.stored import text_fields_of
from tests.clients.bench import PROGRAMS, call
from tests.clients.conftest import MakeBench, installed
from tests.support.daemon import Daemon
from tests.support.servers import RunningServer
from tests.support.waiting import until

pytestmark = pytest.mark.slow

#: Seconds for a client to do its next step: they start slowly on a busy machine.
STEP_S = 90.0


def events(fabric: SyncFabric) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what the log holds: type, agent, payload."""
    found = []
    for _, flat in fabric.session().log():
        fields = text_fields_of(flat)
        agent = fields.get("emitter") or fields.get("to", "")
        found.append((fields.get("type", ""), agent, json.loads(fields.get("payload") or "{}")))
    return found


def names(fabric: SyncFabric, agent: str) -> list[str]:
    return [kind for kind, who, _ in events(fabric) if who == agent]


def is_waiting(fabric: SyncFabric, agent: str) -> bool:
    claims = fabric.session().claims().values()
    return any(one.agent == agent and one.state is ClaimState.WAITING for one in claims)


def status(fabric: SyncFabric, agent: str) -> AgentStatus | None:
    found = fabric.session().agents().get(agent)
    return found.status if found else None


def test_at_least_one_client_is_installed() -> None:
    """Or all of this file is skipped, and nobody sees it."""
    assert any(program.exists() for program in PROGRAMS.values()), "run scripts/clients"


def test_a_free_file_is_written_under_a_claim(
    make_bench: MakeBench, fabric: SyncFabric, harness: str
) -> None:
    bench = make_bench()
    bench.model.script(
        "s", [{"tools": [call(harness, "write", "new.py", "mine\n")]}, {"text": "."}]
    )
    bench.run(harness, "s")
    assert (bench.project / "new.py").read_text() == "mine\n"
    until(lambda: status(fabric, "DEV") is AgentStatus.COMPLETED)
    assert fabric.session().claims() == {}
    intents = [given for kind, who, given in events(fabric) if (kind, who) == ("INTENT", "DEV")]
    assert intents == [{"writes": ["new.py"]}]
    assert "you are DEV" in bench.model.told("s")


def test_a_held_file_is_waited_for_and_then_written(
    make_bench: MakeBench, fabric: SyncFabric, harness: str
) -> None:
    """While it waits, a message comes; the model reads it in the middle of its turn."""
    bench = make_bench("--wait 55")
    turns = [call(harness, "write", "held.py", "mine\n"), call(harness, "write", "b.py", "b\n")]
    bench.model.script("s", [*({"tools": [one]} for one in turns), {"text": "."}])
    with fabric.agent("QA") as qa:
        with qa.writing("held.py"):
            client = bench.start(harness, "s")
            until(lambda: is_waiting(fabric, "DEV"), "DEV waits", STEP_S)
            assert not (bench.project / "held.py").exists()
            qa.resolve("schema", location="schema.sql", consumers=["DEV"])
        assert client.wait(STEP_S) == 0
    assert (bench.project / "held.py").read_text() == "mine\n"
    order = [
        (kind, who)
        for kind, who, given in events(fabric)
        if "held.py" in given.get("resources", []) and kind in ("RELEASE", "PROCEED")
    ]
    assert order[-3:] == [("RELEASE", "QA"), ("PROCEED", "DEV"), ("RELEASE", "DEV")]
    assert "QA says DEPENDENCY_RESOLVED" in bench.model.told("s")


def test_a_refusal_names_holder_and_host(
    make_bench: MakeBench, fabric: SyncFabric, harness: str
) -> None:
    bench = make_bench("--wait 2")
    bench.model.script("s", [{"tools": [call(harness, "write", "held.py", "x\n")]}, {"text": "."}])
    with fabric.agent("QA") as qa, qa.writing("held.py"):
        bench.run(harness, "s")
        assert not (bench.project / "held.py").exists()
        told = bench.model.told("s")
        assert f"held.py is held by QA on {os.uname().nodename}" in told
        assert "You waited 2 s" in told
        assert "fabric why DEV -s demo" in told
        until(lambda: not is_waiting(fabric, "DEV"), "its place is given up with its turn")


def test_a_barrier_holds_a_client_until_it_is_over(
    make_bench: MakeBench, fabric: SyncFabric, harness: str
) -> None:
    bench = make_bench("--wait 55")
    bench.model.script("s", [{"tools": [call(harness, "write", "a.py", "x\n")]}, {"text": "."}])
    with fabric.agent("QA") as qa:
        with qa.integrating("milestone"):
            client = bench.start(harness, "s")
            barrier = fabric.session().barriers
            until(lambda: "DEV" in barrier()["milestone"].held, "DEV is held", STEP_S)
            until(lambda: bench.model.requests, "its model was asked", STEP_S)
            assert not (bench.project / "a.py").exists()
        assert client.wait(STEP_S) == 0
    assert (bench.project / "a.py").exists()
    kinds = [kind for kind, who, _ in events(fabric) if who in ("QA", "DEV")]
    assert kinds.index("INTEGRATED") < kinds.index("INTENT")


def test_a_killed_client_holds_nothing(
    make_bench: MakeBench, fabric: SyncFabric, harness: str
) -> None:
    """SIGKILL in the middle of a tool: no hook runs any more."""
    bench = make_bench()
    sleep = call(harness, "shell", "touch started; sleep 600")
    write = call(harness, "write", "a.py", "x\n")
    bench.model.script("s", [{"tools": [write]}, {"tools": [sleep]}, {"text": "."}])
    client = bench.start(harness, "s")
    until(lambda: (bench.project / "started").exists(), "its command runs", STEP_S)
    assert [one.writes for one in fabric.session().claims().values()] == [["a.py"]]
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    until(lambda: not fabric.session().claims(), "its claims are released")
    until(lambda: status(fabric, "DEV") is AgentStatus.FAILED, "it has ended")


def test_work_goes_on_without_the_server_and_is_reported_afterwards(
    make_bench: MakeBench,
    fabric: SyncFabric,
    own_server: RunningServer,
    orchestrator: Daemon,
    harness: str,
) -> None:
    bench = make_bench("--wait 5")
    bench.model.script("s", [{"tools": [call(harness, "write", "a.py", "x\n")]}, {"text": "."}])
    own_server.stop()
    bench.run(harness, "s")
    assert (bench.project / "a.py").exists()
    assert "Nothing is coordinated now" in bench.model.told("s")
    own_server.start()
    until(lambda: "INTENT" in names(fabric, "DEV"), "what was kept arrives", STEP_S)
    intents = [given for kind, who, given in events(fabric) if (kind, who) == ("INTENT", "DEV")]
    assert intents == [{"writes": ["a.py"]}]
    until(lambda: not fabric.session().claims(), "its process has ended: it holds nothing")


def test_fabric_run_and_the_hooks_speak_for_one_agent(
    make_bench: MakeBench, fabric: SyncFabric
) -> None:
    """`fabric run` starts and ends it; the hooks claim for it."""
    bench = make_bench()
    write = call("claude", "write", "new.py", "x\n")
    bench.model.script("s", [{"tools": [write]}, {"text": "."}])
    run = (sys.executable, "-m", "fabric.cli", "run", "--agent", "DEV", "--")
    client = bench.start(installed("claude"), "s", through=run)
    assert client.wait(STEP_S) == 0
    until(lambda: status(fabric, "DEV") is AgentStatus.COMPLETED)
    assert (bench.project / "new.py").exists()
    found = names(fabric, "DEV")
    assert found.count("COMPLETED") == 1
    assert found.count("INTENT") == 1
    until(lambda: not fabric.session().claims())


def test_sub_agents_are_agents_of_their_own(make_bench: MakeBench, fabric: SyncFabric) -> None:
    bench = make_bench()
    task = {"description": "one", "prompt": "script=sub go", "subagent_type": "general-purpose"}
    agent = {"name": "Agent", "input": {**task, "run_in_background": False}}
    bench.model.script("s", [{"tools": [agent]}, {"text": "."}])
    bench.model.script(
        "sub", [{"tools": [call("claude", "write", "sub.py", "x\n")]}, {"text": "."}]
    )
    bench.run(installed("claude"), "s")
    assert (bench.project / "sub.py").exists()
    until(lambda: status(fabric, "DEV") is AgentStatus.COMPLETED)
    agents = fabric.session().agents()
    (name,) = [one for one in agents if one.startswith("DEV/a")]
    assert agents[name].status is AgentStatus.COMPLETED
    assert "INTENT" in names(fabric, name)
    assert "INTENT" not in names(fabric, "DEV")


def test_a_sub_agent_in_a_worktree_claims_the_files_there(
    make_bench: MakeBench, fabric: SyncFabric
) -> None:
    bench = make_bench()
    task = {"description": "one", "prompt": "script=sub go", "subagent_type": "general-purpose"}
    given = {**task, "run_in_background": False, "isolation": "worktree"}
    bench.model.script("s", [{"tools": [{"name": "Agent", "input": given}]}, {"text": "."}])
    bench.model.script(
        "sub", [{"tools": [call("claude", "shell", "echo x > a.py")]}, {"text": "."}]
    )
    bench.run(installed("claude"), "s")
    assert not (bench.project / "a.py").exists()
    until(lambda: status(fabric, "DEV") is AgentStatus.COMPLETED)
    found = [(who, given) for kind, who, given in events(fabric) if kind == "INTENT"]
    ((agent, intent),) = found
    assert agent.startswith("DEV/a")
    assert intent["writes"] == ["a.py"]
    works_in = fabric.session().agents()[agent].workspace
    assert f"{bench.project}/.claude/worktrees/agent-" in works_in


def test_a_command_that_writes_without_a_claim_is_reported(
    make_bench: MakeBench, fabric: SyncFabric, harness: str
) -> None:
    """What nobody has is claimed; what another agent has is a conflict, and the model is told."""
    bench = make_bench()
    command = "echo x > mine.txt; echo x > theirs.txt"
    shell = call(harness, "shell", command)
    bench.model.script("s", [{"tools": [shell]}, {"text": "."}])
    with fabric.agent("QA") as qa, qa.writing("theirs.txt"):
        bench.run(harness, "s")
        until(lambda: "CONFLICT_DETECTED" in names(fabric, "DEV"))
    found = events(fabric)
    assert ("INTENT", "DEV", {"writes": ["mine.txt"]}) in found
    (conflict,) = [
        given for kind, who, given in found if (kind, who) == ("CONFLICT_DETECTED", "DEV")
    ]
    assert conflict["resources"] == ["theirs.txt"]
    assert conflict["agents"] == ["DEV", "QA"]
    assert "changed theirs.txt, which QA holds" in bench.model.told("s")


def test_a_question_holds_the_end_of_a_turn_twice(
    make_bench: MakeBench, fabric: SyncFabric
) -> None:
    """Then the client may stop: it is not kept for ever."""
    harness = installed("claude")
    bench = make_bench("--wait 55")
    write = call(harness, "write", "gate.py", "x\n")
    bench.model.script("s", [{"tools": [write]}, *[{"text": "I stop."}] * 5])
    with fabric.agent("QA") as qa:
        with qa.writing("gate.py"):
            client = bench.start(harness, "s")
            until(lambda: is_waiting(fabric, "DEV"), "DEV waits", STEP_S)
            asked = {"question": "which port?", "id": "port", "to": "DEV", "wait": False}
            qa.emit(SignalType.ESCALATE, asked)
        assert client.wait(STEP_S) == 0
    turns = [turn for script, turn, _ in bench.model.requests if script == "s"]
    assert turns == [0, 1, 2, 3]
    assert "fabric decide port ANSWER" in bench.model.told("s")


_SLOW = {"message": "slow down", "type": "rate_limit_exceeded"}

#: Client → its vendor's quota, and an answer that says that it is used up. The headers say not to
#: try again, or soon: they would go on for minutes.
LIMITS: dict[str, tuple[str, dict[str, Any]]] = {
    "claude": (
        "anthropic",
        {
            "body": {"type": "error", "error": {**_SLOW, "type": "rate_limit_error"}},
            "headers": {"x-should-retry": "false"},
        },
    ),
    "codex": ("openai", {"body": {"error": _SLOW}}),
    "opencode": ("opencode", {"body": {"error": _SLOW}, "headers": {"retry-after": "1"}}),
}


@pytest.mark.parametrize("harness", sorted(LIMITS))
def test_a_limit_of_the_vendor_pauses_all_who_share_it_in_one_event(
    make_bench: MakeBench, fabric: SyncFabric, harness: str
) -> None:
    """Gemini CLI has no hook for it, and tries again for over a minute: `fabric run` reads that."""
    bench = make_bench()
    vendor, answer = LIMITS[installed(harness)]
    bench.model.script("s", [{"status": 429, **answer}])
    with fabric.agent("QA", quotas=[vendor]) as qa, fabric.agent("OTHER") as other:
        clients = [bench.start(harness, "s", agent) for agent in ("DEV", "DEV2")]
        until(lambda: qa.paused_by == f"quota:{vendor}", "QA is paused", STEP_S)
        assert all(client.wait(STEP_S) for client in clients), "they fail of it"
        assert other.paused_by is None
    blocked = [given for kind, _, given in events(fabric) if kind == "BLOCKED"]
    assert [one["on"] for one in blocked] == [f"quota:{vendor}"]
    assert blocked[0]["for_ms"] == 60_000
