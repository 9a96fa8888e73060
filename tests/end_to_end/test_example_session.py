"""The example session, live and by redis-cli alone: `fabric tail` prints its rows."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fabric.wire.stored import fields_of
from tests.end_to_end.example_agents import ROLES, SESSION
from tests.support import example_session
from tests.support.daemon import StartDaemon, environment
from tests.support.servers import RunningServer, ServerMissingError, binary, flavours
from tests.support.shell import Shell
from tests.support.waiting import CONDITION_SECONDS_MAX, until

#: Signal and stream of each row; the times depend on the test.
ROWS = [row[1:] for row in example_session.ROWS]


def printed(server: RunningServer, home: Path) -> list[tuple[str, str]]:
    """Return signal and stream of the rows that `fabric tail` prints."""
    lines = Shell(home, {"FABRIC_REDIS_URL": server.url}).good("tail", SESSION).lines
    assert lines[0] == "Time  Signal                    Stream  Action"
    return [(line[6:30].strip(), line[32:38].strip()) for line in lines[2:]]


def joined(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Join the rows that a slow machine prints more than a second apart."""
    made: list[tuple[str, str]] = []
    for signal, stream in rows:
        if made and made[-1][0] == signal:
            stream = f"{made.pop()[1]}, {stream}"
        made.append((signal, stream))
    return made


def test_agents_of_their_own(server: RunningServer, daemon: StartDaemon, tmp_path: Path) -> None:
    orchestrator = daemon(server.url)
    agents = {
        role: subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.example_agents", server.url, role],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in ROLES
    }
    try:
        said = {role: agent.communicate(timeout=90)[1] for role, agent in agents.items()}
    finally:
        for agent in agents.values():
            agent.kill()
            agent.wait()
    ends = {role: agent.returncode for role, agent in agents.items()}
    assert ends == dict.fromkeys(ROLES, 0), (said, orchestrator.said())
    assert joined(printed(server, tmp_path)) == ROWS


def program() -> str:
    """Return the redis-cli of a test server, or the installed one."""
    beside = []
    for flavour in flavours():
        try:
            beside.append(binary(flavour).parent / "redis-cli")
        except ServerMissingError:
            continue
    found = [str(path) for path in beside if os.access(path, os.X_OK)]
    installed = shutil.which("redis-cli")
    if not found and installed is None:
        pytest.fail("no redis-cli beside the test servers or on PATH: install redis-tools")
    return found[0] if found else str(installed)


class RedisCli:
    """A running redis-cli that gets one command a line."""

    def __init__(self, server: RunningServer) -> None:
        self._argv = [program(), "-s", str(server.socket)]

    def type(self, *commands: str) -> list[str]:
        """Type a command; return the lines that it prints."""
        done = subprocess.run(
            self._argv,
            input="\n".join(commands),
            capture_output=True,
            text=True,
            timeout=CONDITION_SECONDS_MAX,
            check=True,
        )
        return [line for line in done.stdout.splitlines() if line]

    def say(self, *signals: str) -> None:
        """XADD all signals at once, and wait until they have taken effect."""
        ids = self.type(*(f"XADD fabric:{{0}}:signals * session demo {said}" for said in signals))
        assert all(re.fullmatch(r"\d+-\d+", line) for line in ids), ids
        until(lambda: self.type("XLEN fabric:{0}:signals") == ["0"], "nothing waits any more")

    def fields(self, key: str) -> dict[str, str]:
        """Return HGETALL of one of the session's hashes."""
        lines = self.type(f"HGETALL fabric:{{0}}:demo:{key}")
        return fields_of(lines)

    def members(self, key: str) -> list[str]:
        """Return all members of one of the session's sorted sets."""
        return self.type(f"ZRANGE fabric:{{0}}:demo:{key} 0 -1")


@pytest.fixture
def cli(server: RunningServer, daemon: StartDaemon) -> RedisCli:
    daemon(server.url)
    return RedisCli(server)


def lock(cli: RedisCli) -> tuple[str, str]:
    """Return the holder of config.py, and the token."""
    found = cli.fields("lock:config.py")
    assert list(found) == ["holder", "token", "since", "expires"]
    assert int(found["since"]) > 0
    return found["holder"], found["token"]


def test_redis_cli_alone(server: RunningServer, cli: RedisCli, tmp_path: Path) -> None:
    cli.say(
        "type STARTED emitter A stream A produces schema-change",
        "type STARTED emitter B stream B",
    )
    cli.say("type PROGRESS(25%) emitter A", "type BLOCKED(schema-change) emitter B")
    assert json.loads(cli.fields("dependencies")["schema-change"])["waiters"] == {"B": "4-0"}
    cli.say("type DEPENDENCY_RESOLVED emitter A dependency_id schema-change")
    cli.say("type CHECKPOINT_REACHED emitter A", "type CHECKPOINT_REACHED emitter B")

    conflict = json.dumps({"resources": ["config.py"], "agents": ["A", "B"]})
    cli.say(f"type CONFLICT_DETECTED emitter DETECTOR payload '{conflict}'")
    assert lock(cli) == ("A", "1")
    assert cli.members("queue:config.py") == ["B"]

    cli.say("type DEPENDENCY_RESOLVED emitter A dependency_id config.py")
    assert lock(cli) == ("B", "2")
    assert cli.members("queue:config.py") == []

    cli.say("type INTEGRATION_REQUIRED emitter D stream D name release")
    barrier = cli.fields("barrier:release")
    assert list(barrier) == ["generation", "leader", "members", "deadline", "state"]
    assert (barrier["generation"], barrier["leader"]) == ("1", "D")
    assert (barrier["members"], barrier["state"]) == ('["A","B"]', "gathering")
    assert cli.members("arrived:release") == []

    cli.say("type COMPLETED emitter A", "type COMPLETED emitter B")
    barrier = cli.fields("barrier:release")
    assert (barrier["members"], barrier["state"]) == ("[]", "integrating")
    assert cli.type("KEYS *:lock:*", "KEYS *:queue:*", "KEYS *:arrived:*") == []
    assert cli.type("XRANGE fabric:{0}:demo:inbox:D - +")[1:3] == ["type", "PROCEED"]
    assert printed(server, tmp_path) == ROWS


def test_redis_cli_shows_who_has_arrived_and_what_is_asked(cli: RedisCli) -> None:
    """Keys that the example leaves empty: its agents end before they arrive, and none asks."""
    cli.say("type STARTED emitter A", "type STARTED emitter B")
    cli.say("type INTEGRATION_REQUIRED emitter D name release")
    cli.say("type CHECKPOINT_REACHED emitter B")
    assert cli.members("arrived:release") == ["B"]
    cli.say("type ESCALATE emitter A id Q question 'Ship it?'")
    question = json.loads(cli.fields("escalations")["Q"])
    assert (question["asker"], question["question"]) == ("A", "Ship it?")
    assert question["state"] == "open"
    # An agent that waits for an answer counts as arrived: all are there.
    assert sorted(cli.members("arrived:release")) == ["A", "B"]
    assert cli.fields("barrier:release")["state"] == "integrating"
    cli.say("type DECIDED emitter P escalation Q decision yes", "type INTEGRATED emitter D")
    assert json.loads(cli.fields("escalations")["Q"])["decision"] == "yes"
    assert cli.fields("barrier:release")["state"] == "over"
