"""Runs `fabric up` in a project of its own, and gives access to the processes it starts."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis

from fabric import devserver
from tests.support.daemon import LEASE_MS
from tests.support.project_member import is_gone
from tests.support.shell import Done, Shell, end
from tests.support.waiting import until


class Running:
    """A `fabric up --json` that has said where everything is."""

    def __init__(self, shell: Shell, *words: str, **more: str) -> None:
        self.process = shell.start("up", "--json", *words, **more)
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        assert said, end(self.process)
        self.told: dict[str, Any] = json.loads(said)
        self.workers: dict[str, int] = self.told["workers"]
        self.server_pid: int = self.told["server_pid"]

    @property
    def pids(self) -> list[int]:
        return [self.process.pid, *self.workers.values()]

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.told["url"], decode_responses=True)

    def handle(self, session: str = "s") -> int:
        """Emit a signal with a plain XADD; return the number of signals in the log afterwards."""
        signal_ = {"session": session, "type": "PROGRESS", "emitter": "A", "payload": "{}"}
        log = f"fabric:{{0}}:{session}:log"
        with self.client() as client:

            def handled() -> int:
                return sum(fields["kind"] == "signal" for _, fields in client.xrange(log))

            before = handled()
            client.xadd("fabric:{0}:signals", dict(signal_))
            until(lambda: handled() > before, "the signal is handled")
            return handled()

    def stop(self, number: signal.Signals = signal.SIGINT) -> Done:
        self.process.send_signal(number)
        return end(self.process)

    def kill(self) -> None:
        """SIGKILL `up` alone, and wait until it is gone."""
        self.process.kill()
        end(self.process)


@contextmanager
def up(shell: Shell, *words: str, **more: str) -> Iterator[Running]:
    """Run it for as long as the block does; nothing that it started is left behind."""
    running = Running(shell, *words, **more)
    try:
        yield running
    finally:
        for pid in running.pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if running.process.poll() is None:
            running.kill()
        until(lambda: all(map(is_gone, running.pids)), "the workers are gone")


@contextmanager
def project(shell: Shell) -> Iterator[Shell]:
    """Make the shell's folder a project; its private server does not outlive the block."""
    (shell.home / "fabric.toml").touch()
    shell.variables["FABRIC_LEASE_MS"] = str(LEASE_MS)
    try:
        yield shell
    finally:
        devserver.stop(shell.home)
