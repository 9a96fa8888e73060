"""`fabric run`: a command as an agent, with real processes."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until


def agent(shell: Shell, name: str = "A") -> dict[str, Any]:
    return dict(shell.records("agents").get(name, {}))


def run(shell: Shell, *command: str, code: int = 0, flags: tuple[str, ...] = ()) -> Any:
    done = shell.run("run", "--json", *flags, "--", *command)
    assert done.code == code, done
    return done.json


def test_a_command_is_an_agent_from_its_start_to_its_end(shell: Shell) -> None:
    ended = run(shell, "sh", "-c", "echo working; echo 'PROGRESS(25%)'; echo words >&2")
    assert (ended["kind"], ended["code"], ended["error"]) == ("COMPLETED", 0, "")
    until(lambda: agent(shell)["status"] == "completed")
    log = shell.good("tail", "--json", "--all").json_lines
    assert [one["type"] for one in log if one.get("emitter") == "A"] == [
        "STARTED", "PROGRESS", "COMPLETED",
    ]  # fmt: skip
    kept = Path(ended["kept"])
    assert sorted(kept.read_text().splitlines()) == ["PROGRESS(25%)", "words", "working"]
    assert kept.stat().st_mode & 0o077 == 0
    assert kept.parent.stat().st_mode & 0o077 == 0


def test_its_exit_code_is_ours_and_its_last_words_are_the_reason(shell: Shell) -> None:
    done = shell.run("run", "--", "sh", "-c", "echo out; echo 'no such table' >&2; exit 3")
    assert (done.code, done.out) == (3, "out\n")
    until(lambda: agent(shell).get("error") == "exit code 3: no such table")
    assert "no such table" in done.err
    assert run(shell, "sh", "-c", "kill -9 $$", code=137)["error"] == "ended by SIGKILL"
    assert run(shell, "no-such-command", code=127)["kind"] == "FAILED"


@pytest.mark.slow  # starts a whole Python
def test_it_knows_who_it_is_and_speaks_for_itself(shell: Shell) -> None:
    program = "import sys; from fabric.cli import main; sys.exit(main())"
    said = f'{sys.executable} -c "{program}" emit PROGRESS --percent 40; echo $FABRIC_AGENT; exit 1'
    done = shell.run("run", "--agent", "QA", "--", "sh", "-c", said, PYTHONPATH=str(_top()))
    assert (done.code, done.out.splitlines()[-1]) == (1, "QA"), done
    until(lambda: agent(shell, "QA")["status"] == "failed")
    assert (agent(shell, "QA")["percent"], agent(shell, "QA")["stream"]) == (40, "A")


def _top() -> Path:
    return Path(__file__).parents[2]


def test_what_it_prints_as_its_end_is_its_end(shell: Shell, session: str) -> None:
    result = json.dumps({"signal": "COMPLETED", "result": {"answer": 42}})
    run(shell, "echo", result)
    until(lambda: agent(shell)["status"] == "completed")
    log = shell.good("tail", session, "--json", "--all").json_lines
    (completed,) = [one for one in log if one.get("type") == "COMPLETED"]
    assert "42" in json.dumps(completed)
    assert run(shell, "echo", '{"signal": "FAILED", "error": "tired"}', code=1)["error"] == "tired"


def test_a_name_that_is_at_work_is_refused(shell: Shell) -> None:
    shell.good("emit", "STARTED", "--confirm")
    done = shell.run("run", "--", "true")
    assert done.code == 5
    assert "A is at work" in done.err
    assert "--agent" in done.err


def test_of_two_that_start_in_the_same_instant_one_is_refused_before_its_command_begins(
    quiet: Shell, server: RunningServer, tmp_path: Path
) -> None:
    """Both find the name free: only the decision tells. Before, both commands ran."""
    said = "echo began >>began; until test -e go; do sleep 0.02; done"
    both = [quiet.start("run", "--agent", "W", "--", "sh", "-c", said) for _ in range(2)]
    namespace = quiet.variables["FABRIC_NAMESPACE"]
    until(lambda: server.cli("XLEN", f"{namespace}:{{0}}:signals") == 2)
    quiet.start("orchestrator")
    until(lambda: any(one.poll() is not None for one in both))
    (refused,) = [one for one in both if one.poll() is not None]
    done = end(refused)
    assert done.code == 5, done
    assert "W may not start: refused (NAME_TAKEN): W is the agent of " in done.err
    (tmp_path / "go").touch()
    (running,) = [one for one in both if one is not refused]
    assert end(running).code == 0
    assert (tmp_path / "began").read_text() == "began\n"


def test_a_run_that_was_killed_has_no_name_any_more(shell: Shell, tmp_path: Path) -> None:
    """It is not waited for until it counts as dead: its process is gone."""
    process = shell.start("run", "--", "sh", "-c", "touch ready; exec sleep 600")
    until((tmp_path / "ready").exists)
    process.kill()
    process.wait()
    assert run(shell, "true")["kind"] == "COMPLETED"
    until(lambda: agent(shell)["status"] == "completed")
    assert agent(shell)["incarnation"] == 2


def test_the_command_is_the_process_that_has_the_name(shell: Shell, tmp_path: Path) -> None:
    program = tmp_path / "agent.py"
    program.write_text(
        "import asyncio, os\nfrom fabric import Fabric\n"
        "async def main():\n"
        "    async with Fabric.connect() as fabric, fabric.agent() as agent:\n"
        "        await agent.ready()\n"
        "asyncio.run(main())\n"
    )
    run(shell, sys.executable, str(program))
    until(lambda: agent(shell)["status"] == "completed")
    assert agent(shell)["incarnation"] == 2
    done = shell.good("why", "A")
    assert "NAME_TAKEN" not in done.out


def test_a_quota_that_is_used_up_pauses_those_who_share_it(shell: Shell) -> None:
    events = Path(__file__).parents[1] / "agents" / "events" / "codex_429.jsonl"
    ended = run(shell, "sh", "-c", f"cat {events}; exit 1", code=1)
    assert ended["is_limited"]
    until(lambda: "quota:openai" in shell.records("dependencies"))


def test_what_it_started_ends_with_it_when_we_are_killed(shell: Shell, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    said = f"setsid sleep 600 & echo $! >{pids}.new; mv {pids}.new {pids}; exec sleep 600"
    process = shell.start("run", "--", "sh", "-c", said)
    until(pids.exists)
    pid = int(pids.read_text())
    process.kill()
    until(lambda: not _is_alive(pid))


def test_when_we_are_stopped_it_ends_and_has_failed(shell: Shell, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    said = f"trap 'echo bye; exit 0' TERM; touch {ready}; while :; do sleep 0.05; done"
    process = shell.start("run", "--", "sh", "-c", said)
    until(ready.exists)
    process.terminate()
    done = end(process)
    assert (done.code, done.out) == (143, "bye\n")
    until(lambda: agent(shell)["status"] == "failed")
    assert "stopped" in agent(shell)["error"]


def test_a_cancel_stops_it(shell: Shell, session: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = shell.start("run", "--", "sh", "-c", f"touch {ready}; exec sleep 600")
    until(ready.exists)
    shell.good("close", session)
    done = end(process)
    assert done.code == 143, done
    assert "told to stop" in done.err


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
