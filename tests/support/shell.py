"""The command line as users run it: a separate process, its output and its exit code.

It is forked from a process that has imported everything (`tests/support/forkserver.py`), unless a
test gives a program of its own or settings of the interpreter.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, NamedTuple

import redis

from tests.support.forked import Forked
from tests.support.servers import RunningServer

#: Seconds for a command that ends by itself; only a failure takes that long.
COMMAND_SECONDS_MAX = 60.0

#: Prefixes of environment variables that a command must not inherit from the test run.
_HIDDEN = ("FABRIC_", "XDG_", "PYTHON")


class Done(NamedTuple):
    """What a command has printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


@dataclass
class Shell:
    """Runs `fabric` in its own folder, with only the settings that a test sets."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)
    started: list[Forked] = field(default_factory=list)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        # The test run's own (tests/conftest.py), so that a test finds what a command has started.
        state = {"XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]}
        return {**kept, **state, "HOME": str(self.home), **self.variables, **more}

    def run(
        self, *words: str, given: str | bytes | None = None, program: str | None = None, **more: str
    ) -> Done:
        """Run one command to its end; `more` is added to its environment."""
        environment = self.environment(**more)
        input_ = given.encode() if isinstance(given, str) else given
        if program is not None or any(name.startswith("PYTHON") for name in environment):
            start = ["-m", "fabric.cli"] if program is None else ["-c", program]
            done = subprocess.run(
                [sys.executable, *start, *words],
                cwd=self.home,
                env=environment,
                input=input_,
                stdin=DEVNULL if given is None else None,
                capture_output=True,
                timeout=COMMAND_SECONDS_MAX,
                check=False,
            )
            return Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        process = Forked(
            *("fabric.cli", words),
            cwd=self.home,
            env=environment,
            stdin=DEVNULL if given is None else PIPE,
            stdout=PIPE,
            stderr=PIPE,
            newline="",
        )
        return end(process, input_ or b"")

    def good(self, *words: str, given: str | None = None, **more: str) -> Done:
        """Run one command; it must exit with 0 and print nothing to stderr."""
        done = self.run(*words, given=given, **more)
        assert (done.code, done.err) == (0, ""), done
        return done

    def start(self, *words: str, **more: str) -> Forked:
        """Start a command and leave it running; `close` kills it if it still runs."""
        process = Forked(
            *("fabric.cli", words),
            cwd=self.home,
            env=self.environment(**more),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        self.started.append(process)
        return process

    def records(self, kind: str) -> dict[str, Any]:
        """Return the session's hash of a kind, read directly from the server."""
        session = self.variables["FABRIC_SESSION"]
        with redis.Redis.from_url(self.variables["FABRIC_REDIS_URL"]) as client:
            found = client.hgetall(f"fabric:{{0}}:{session}:{kind}")
        return {name.decode(): json.loads(value) for name, value in dict(found).items()}

    def close(self) -> None:
        """Kill every command that still runs."""
        for process in self.started:
            process.kill()
            with process:
                pass  # closes its pipes and waits for its end


def is_following(server: RunningServer) -> bool:
    """Return whether a command waits in a blocking read."""
    clients = server.cli("CLIENT", "LIST").splitlines()
    return any(" name=fabric-cli " in line and " cmd=xread " in line for line in clients)


def end(process: Forked, given: bytes = b"") -> Done:
    """Give a command the rest of its input; return what is left of its output at its end."""
    try:
        out, err = process.communicate(given, COMMAND_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Done(process.wait(), out, err)
