"""Processes that use a project's private server, and helpers that wait for them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import redis

from tests.support.servers import ROOT

#: Seconds to wait for another process; a slow machine needs about one.
CONDITION_SECONDS_MAX = 30.0

#: Prints hello, waits for a line, joins, prints the server's pid, waits for a line, leaves.
MEMBER = """
import signal, sys
from pathlib import Path
from fabric import devserver
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else lambda *_: sys.exit(0))
print("hello", flush=True)
sys.stdin.readline()
with devserver.acquire(Path(sys.argv[1])) as mine:
    print(mine.server.pid, flush=True)
    sys.stdin.readline()
"""

#: Joins, forks a child that stays, prints the child's pid.
PARENT = """
import os, signal, sys
from pathlib import Path
from fabric import devserver
mine = devserver.acquire(Path(sys.argv[1]))
child = os.fork()
if child:
    print(child, flush=True)
signal.pause()
"""


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition that another process brings about is true."""
    deadline = time.monotonic() + CONDITION_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


class Member:
    """A process that uses the server."""

    def __init__(self, root: Path, *arguments: str, program: str = MEMBER) -> None:
        kept = filter(None, [os.environ.get("PYTHONPATH")])
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(root), *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), *kept))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def join(self) -> int:
        """Have it join; return the pid of its server."""
        assert self.hear() == "hello"
        self.go_on()
        return int(self.hear())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def client(url: str) -> "redis.Redis":
    return redis.Redis.from_url(url, decode_responses=True)


def is_gone(pid: int) -> bool:
    """Return whether the process has ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
