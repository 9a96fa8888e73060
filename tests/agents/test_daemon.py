"""The agent daemon speaks for the agents of several clients, on a real server."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fabric import SyncFabric
from fabric.agents.command import FOLLOW
from fabric.core.record import AgentStatus, ClaimState
from fabric.core.signal import SignalType
from fabric.wire.stored import text_fields_of
from tests.agents.conftest import Agentd, tool
from tests.support.daemon import environment
from tests.support.waiting import until

START = {"hook_event_name": "SessionStart", "source": "startup"}
STOP = {"hook_event_name": "Stop"}
END = {"hook_event_name": "SessionEnd", "reason": "exit"}


def holders(fabric: SyncFabric) -> dict[str, str]:
    """Return who holds which file."""
    claims = fabric.session().claims().values()
    return {
        name: one.agent for one in claims if one.state is ClaimState.HELD for name in one.writes
    }


def status(fabric: SyncFabric, agent: str) -> AgentStatus | None:
    found = fabric.session().agents().get(agent)
    return found.status if found else None


def until_said(say: Callable[[], str]) -> str:
    """Give an event until there is something to say: messages come by themselves."""
    found: list[str] = []

    def is_said() -> bool:
        found.append(say())
        return bool(found[-1])

    until(is_said)
    return found[-1]


def kinds(fabric: SyncFabric) -> list[tuple[str, str]]:
    rows = [text_fields_of(flat) for _, flat in fabric.session().log()]
    return [(row["type"], row.get("emitter", "")) for row in rows]


def test_only_its_owner_may_enter(agentd: Agentd) -> None:
    assert stat.S_IMODE(agentd.folder.stat().st_mode) == 0o700
    path = os.fsdecode(agentd.path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 - os.fsdecode gives a text


def test_the_second_writes_after_the_first_has_ended_its_turn(
    agentd: Agentd, fabric: SyncFabric
) -> None:
    assert agentd.write("a.py", "A") == ""
    agentd.wrote("a.py", "A")
    second = agentd.in_background(lambda: agentd.write("a.py", "B", wait_s=30))
    until(lambda: status(fabric, "B") is AgentStatus.BLOCKED)
    assert holders(fabric) == {"a.py": "A"}
    agentd.say(STOP, "A")
    assert second.result() == ""
    until(lambda: holders(fabric) == {"a.py": "B"})  # A gave a.py back while it waited, b.py now


def test_a_wait_that_is_given_up_keeps_its_place(agentd: Agentd, fabric: SyncFabric) -> None:
    agentd.write("a.py", "A")
    refusal = agentd.write("a.py", "B", wait_s=0.3)
    assert f"a.py is held by A on {os.uname().nodename}" in refusal
    assert "you are next" in refusal
    third = agentd.write("a.py", "C", wait_s=0.3)
    assert "1 agents are before you" in third
    agentd.say(STOP, "A")
    until(lambda: holders(fabric) == {"a.py": "B"})
    assert agentd.write("a.py", "B") == ""
    agentd.say(STOP, "B")
    assert agentd.write("a.py", "C") == ""


def test_the_same_agent_writes_a_file_again_at_once(agentd: Agentd, fabric: SyncFabric) -> None:
    for _ in range(3):
        assert agentd.write("a.py", "A", wait_s=0.5) == ""
        agentd.wrote("a.py", "A")
    assert kinds(fabric).count(("INTENT", "A")) == 1


def test_a_file_that_another_has_changed_is_read_before_it_is_overwritten(agentd: Agentd) -> None:
    path = agentd.project / "a.py"
    path.write_text("one\n")
    read = tool("PostToolUse", "Read", path=str(path))
    agentd.say(read, "B")
    assert agentd.write("a.py", "A") == ""
    path.write_text("one\ntwo\n")
    agentd.wrote("a.py", "A")
    agentd.say(STOP, "A")
    assert "a.py was changed by A since you last read it" in agentd.write("a.py", "B")
    agentd.say(read, "B")
    assert agentd.write("a.py", "B") == ""


def test_an_edit_needs_no_new_look(agentd: Agentd) -> None:
    """It reads the file itself, and fails if what it looks for is not there."""
    path = agentd.project / "a.py"
    path.write_text("one\n")
    agentd.say(tool("PostToolUse", "Read", path=str(path)), "B")
    path.write_text("one\ntwo\n")
    answer = agentd.say(tool("PreToolUse", "Edit", path=str(path), id="1"), "B")
    assert answer is None


def test_agents_that_want_each_others_files_both_go_on(agentd: Agentd, fabric: SyncFabric) -> None:
    """The one that closes the cycle gives up what it is not writing, and waits like all others."""
    for agent, path in (("A", "a.py"), ("B", "b.py")):
        assert agentd.write(path, agent) == ""
        agentd.wrote(path, agent)
    first = agentd.in_background(lambda: agentd.write("b.py", "A", wait_s=30))
    until(lambda: status(fabric, "A") is AgentStatus.BLOCKED)
    second = agentd.in_background(lambda: agentd.write("a.py", "B", wait_s=30))
    assert first.result() == ""
    assert holders(fabric)["b.py"] == "A"
    agentd.wrote("b.py", "A")
    agentd.say(STOP, "A")
    assert second.result() == ""
    until(lambda: holders(fabric) == {"a.py": "B"})  # A gave a.py back while it waited, b.py now


def test_paths_are_named_from_the_top_of_the_worktree(agentd: Agentd, fabric: SyncFabric) -> None:
    (agentd.project / "src").mkdir()
    event = tool("PreToolUse", "Write", path="../src/./a.py", id="1")
    agentd.say({**event, "cwd": str(agentd.project / "src")}, "A")
    assert holders(fabric) == {"src/a.py": "A"}


def test_an_ended_process_releases_what_its_agents_hold(agentd: Agentd, fabric: SyncFabric) -> None:
    client = subprocess.Popen(["sleep", "600"])  # noqa: S607 - sleep from PATH
    try:
        agentd.write("a.py", "A", pid=client.pid)
        child = {**tool("PreToolUse", "Write", path=str(agentd.project / "b.py"), id="2")}
        agentd.say({**child, "agent_id": "a0123456789"}, "A", pid=client.pid)
        assert holders(fabric) == {"a.py": "A", "b.py": "A/a01234567"}
    finally:
        client.kill()
        client.wait()
    until(lambda: not fabric.session().claims())
    until(lambda: status(fabric, "A") is AgentStatus.FAILED)
    until(lambda: status(fabric, "A/a01234567") is AgentStatus.FAILED)


def test_a_session_that_ends_between_turns_is_completed(agentd: Agentd, fabric: SyncFabric) -> None:
    agentd.say(START)
    agentd.say(STOP)
    agentd.say(END)
    until(lambda: status(fabric, "A") is AgentStatus.COMPLETED)
    agentd.say(START, "B")
    agentd.write("b.py", "B")
    agentd.say(END, "B")
    until(lambda: status(fabric, "B") is AgentStatus.FAILED)


def test_what_an_agent_has_promised_is_not_done_because_its_session_ends(
    agentd: Agentd, fabric: SyncFabric
) -> None:
    agentd.say(START)
    fabric.emit([{"type": "STARTED", "emitter": "A", "payload": {"produces": ["schema"]}}])
    until(lambda: status(fabric, "A") and fabric.session().agents()["A"].produces == ["schema"])
    agentd.say(STOP)
    agentd.say(END)
    until(lambda: status(fabric, "A") is AgentStatus.FAILED)


def test_a_briefing_and_messages(agentd: Agentd, fabric: SyncFabric) -> None:
    def context(answer: Any) -> str:
        found: str = (answer or {}).get("hookSpecificOutput", {}).get("additionalContext", "")
        return found

    agentd.say(START, "B")
    agentd.write("b.py", "B")
    assert "B is active, has b.py" in context(agentd.say(START, "A"))
    with fabric.agent("QA") as qa:
        qa.resolve("schema", location="s.sql", consumers=["A"])
        after = tool("PostToolUse", "Read", path=str(agentd.project / "x"))
        words = until_said(lambda: context(agentd.say(after, "A")))
    assert "QA says DEPENDENCY_RESOLVED" in words
    assert "not from your user" in words
    assert context(agentd.say(after, "A")) == ""


def test_only_the_holder_is_told_that_others_want_its_file(agentd: Agentd) -> None:
    def context(agent: str) -> str:
        answer = agentd.say(tool("PostToolUse", "Read", path="/x"), agent) or {}
        found: str = answer.get("hookSpecificOutput", {}).get("additionalContext", "")
        return found

    agentd.write("a.py", "A")
    agentd.write("a.py", "B", wait_s=0.3)
    assert "Others want a.py, which you hold" in until_said(lambda: context("A"))
    assert context("B") == ""


def test_a_limit_of_a_vendor_is_reported_once(agentd: Agentd, fabric: SyncFabric) -> None:
    failed = {"hook_event_name": "StopFailure", "error": "rate_limit"}
    for agent in ("A", "B"):
        agentd.say(START, agent)
    agentd.say(failed, "A")
    until(lambda: status(fabric, "B") is AgentStatus.BLOCKED)
    agentd.say(failed, "B")
    found = kinds(fabric)
    assert found.count(("BLOCKED", "A")) == 1
    assert found.count(("BLOCKED", "B")) == 0
    assert fabric.session().agents()["B"].waits_for == ["quota:anthropic"]


def test_an_agents_own_list_comes_onto_the_board(agentd: Agentd, fabric: SyncFabric) -> None:
    todos = [{"content": "one", "status": "completed"}, {"content": "two", "status": "pending"}]
    agentd.say(tool("PostToolUse", "TodoWrite", todos=todos), "A")
    until(lambda: status(fabric, "A") and fabric.session().agents()["A"].percent == 50)
    tasks = {one.content: one.status.value for one in fabric.session().tasks().values()}
    assert tasks == {"one": "completed", "two": "pending"}


def test_a_run_that_was_closed_does_not_stop_the_client(agentd: Agentd, fabric: SyncFabric) -> None:
    agentd.say(START)
    until(lambda: "A" in fabric.session().agents())  # told late, where the machine is busy
    fabric.emit([{"type": "RUN_CLOSED", "emitter": "me", "payload": {}}])
    until(lambda: status(fabric, "A") is AgentStatus.FAILED)
    assert agentd.write("a.py", "A", wait_s=1) == ""


def test_a_file_that_was_released_elsewhere_is_asked_for_again(
    agentd: Agentd, fabric: SyncFabric
) -> None:
    """The model may give it back with a command."""
    agentd.write("a.py", "A")
    fabric.emit([{"type": "RELEASE", "emitter": "A", "payload": {"resources": ["a.py"]}}])
    until(lambda: not fabric.session().claims())
    assert agentd.write("a.py", "A") == ""
    assert holders(fabric) == {"a.py": "A"}


def test_an_agent_that_was_declared_dead_starts_again(agentd: Agentd, fabric: SyncFabric) -> None:
    """As after a cut of its host's network."""
    agentd.write("a.py", "A")
    fabric.emit([{"type": SignalType.FAILED.value, "emitter": "A", "payload": {"error": "x"}}])
    until(lambda: status(fabric, "A") is AgentStatus.FAILED)
    assert agentd.write("a.py", "A") == ""
    assert holders(fabric) == {"a.py": "A"}
    assert fabric.session().agents()["A"].incarnation == 2


def test_an_idle_agent_does_not_hold_up_an_integration(agentd: Agentd, fabric: SyncFabric) -> None:
    """Between two turns it is at a safe place: its person may be away for hours."""
    agentd.say(START, "A")
    agentd.write("a.py", "A")
    agentd.say(STOP, "A")
    with fabric.agent("QA") as qa, qa.integrating("milestone", timeout=10):
        assert "A" in fabric.session().barriers()["milestone"].arrived


@contextmanager
def follow(agentd: Agentd, agent: str) -> Iterator[IO[str]]:
    """Run what a client runs to be woken; give its output."""
    with subprocess.Popen(
        [sys.executable, "-S", "-E", str(FOLLOW), "claude", f"of {agent}"],
        env=environment() | agentd.variables,
        cwd=agentd.project,
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        assert follower.stdout is not None
        try:
            yield follower.stdout
        finally:
            follower.kill()


def test_an_idle_agent_is_woken_once_by_what_is_meant_for_it(
    agentd: Agentd, fabric: SyncFabric
) -> None:
    """Not in the middle of a turn, and not by what is told to everyone."""
    agentd.say(START, "A")
    agentd.write("a.py", "A")
    with fabric.agent("QA") as qa, follow(agentd, "A") as follower:
        qa.resolve("schema", location="one.sql", consumers=["A"])
        assert "one.sql" in until_said(lambda: str(agentd.wrote("a.py", "A") or ""))
        agentd.say(STOP, "A")
        qa.partial_result({"findings": [{"key": "k", "value": 1}]})
        qa.resolve("api", location="two.sql", consumers=["A"])
        line = follower.readline()
        assert "you are A." in line
        assert "two.sql" in line
        assert "one.sql" not in line


def test_a_limit_that_two_agents_meet_at_once_is_one_event(
    agentd: Agentd, fabric: SyncFabric
) -> None:
    agents = [f"A{number}" for number in range(6)]
    for agent in agents:
        agentd.say(START, agent)
    failed = {"hook_event_name": "StopFailure", "error": "rate_limit"}
    assert agentd.orchestrator is not None
    agentd.orchestrator.freeze()  # so that nobody hears of the first one's before the last one's
    for agent in agents:
        agentd.say(failed, agent)
    agentd.orchestrator.thaw()
    until(lambda: any(kind == "BLOCKED" for kind, _ in kinds(fabric)))
    agentd.say(STOP, "A0")
    assert [kind for kind, _ in kinds(fabric)].count("BLOCKED") == 1


def test_a_run_that_is_put_off_keeps_its_place_as_long_as_it_can_be_resumed(
    agentd: Agentd, fabric: SyncFabric, tmp_path: Path
) -> None:
    """The client has ended; `fabric run` waits for its turn, and is killed."""
    message = {"id": "m", "role": "assistant", "content": [{"type": "tool_use", "id": "B a.py"}]}
    transcript = tmp_path / "conversation.jsonl"
    transcript.write_text(json.dumps({"message": message}))
    agentd.write("a.py", "A")
    with subprocess.Popen(["sleep", "600"]) as run:  # noqa: S607 - a process to watch
        agentd.variables |= {"FABRIC_RUN": str(run.pid), "FABRIC_DEFER": "1"}
        with subprocess.Popen(["sleep", "600"]) as client:  # noqa: S607 - as above, a process
            event = tool("PreToolUse", "Write", path=str(agentd.project / "a.py"), id="B a.py")
            event["transcript_path"] = str(transcript)
            answer = agentd.say(event, "B", wait_s=0.3, pid=client.pid)
            assert answer["hookSpecificOutput"]["permissionDecision"] == "defer"
            agentd.say(END, "B", pid=client.pid)
            client.kill()
        agentd.say(START, "C")  # by now its end has been seen
        waiting = [one.agent for one in fabric.session().claims().values() if one.agent != "A"]
        assert waiting == ["B"]
        run.kill()
    until(lambda: len(fabric.session().claims()) == 1, "its place is given up")
