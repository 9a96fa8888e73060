"""Held claims and a git repository for the tests of `fabric guard`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from fabric.core.record import ClaimRecord, ClaimState
from tests.support.keyspace import session
from tests.support.servers import RunningServer
from tests.support.shell import COMMAND_SECONDS_MAX, Done, Shell

#: Takes the agent, the token, and what is claimed.
Hold = Callable[..., None]

SINCE_MS = 1_735_787_045_000

NOWHERE = {"FABRIC_REDIS_URL": "unix:///nowhere/redis.sock"}


def holding(server: RunningServer, namespace: str) -> Hold:
    """Writes claims into session `s` as the orchestrator does."""
    claims = session("s", namespace).claims

    def put(agent: str, token: int, *writes: str) -> None:
        claim = ClaimRecord(agent, ClaimState.HELD, [*writes], token=token, granted_ms=SINCE_MS)
        server.cli("HSET", claims, claim.id, msgspec.json.encode(claim))

    return put


class Repository:
    """A git repository in the shell's folder; `git` finds the command line that is tested."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.folder = shell.home
        self.good("init", "-q")

    def git(self, *words: str, **more: str) -> Done:
        environment = self.shell.environment(**more)
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *words],  # noqa: S607 - git from PATH, as the hook has it
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def good(self, *words: str) -> Done:
        done = self.git(*words)
        assert done.code == 0, done
        return done

    def stage(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write("one more line\n")
        self.good("add", "--", *names)

    @property
    def commits(self) -> int:
        return int(self.git("rev-list", "--count", "--all").out)
