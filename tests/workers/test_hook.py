"""The program that is told of new escalations: real processes, started, bounded and killed."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from workers.hook import PROCESSES_MAX, Hook

#: Seconds for a run that is to end by itself; only a failure takes them all.
LIMIT_S = 60.0
#: Seconds for a run that never ends: long enough for it to begin.
SHORT_S = 2.0

#: Writes what it got into the file of its first argument, whole or not at all.
KEEP = """
import json, os, sys
path = sys.argv[1]
seen = {"stdin": sys.stdin.read(), "argv": sys.argv[2:], "environment": dict(os.environ)}
with open(path + ".part", "w") as file:
    json.dump(seen, file)
os.rename(path + ".part", path)
"""

#: Notes its start and its end in a log, and between the two waits for the file named on stdin.
STAY = """
import os, sys, time
log, name = sys.argv[1], sys.stdin.read()
def note(word):
    with open(log, "a") as file:
        file.write(f"{word} {name} {os.getpid()}\\n")
note("+")
while not os.path.exists(name):
    time.sleep(0.01)
note("-")
"""

#: Starts a program that never ends, notes the pids of both, and waits for it.
LINGER = """
import os, subprocess, sys
child = subprocess.Popen(["sleep", "1000"])
with open(sys.argv[1], "w") as file:
    file.write(f"{os.getpid()} {child.pid}\\n")
child.wait()
"""


@asynccontextmanager
async def hook(program: str, *arguments: object, limit_s: float = LIMIT_S) -> AsyncIterator[Hook]:
    running = Hook((sys.executable, "-c", program, *map(str, arguments)), limit_s)
    try:
        yield running
    finally:
        await running.close()


def noted(log: Path) -> list[list[str]]:
    """What runs have noted, a line each."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def has_lines(log: Path, count: int) -> bool:
    """Whether runs have noted so many lines, or more."""
    return len(noted(log)) >= count


def let_go(name: str) -> None:
    """Let the run end that waits for a file of this name."""
    Path(name).touch()


def pids_in(file: Path) -> list[int]:
    """The program and what it has started; none before it has noted both."""
    pids = [int(pid) for pid in file.read_text().split()] if file.exists() else []
    return pids if len(pids) == 2 else []


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_the_program_gets_the_document_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FABRIC_REDIS_URL", "redis://:password@host")
    monkeypatch.setenv("fabric_redis_url", "redis://:password@host")
    monkeypatch.setenv("FABRIC_NAMESPACE", "kept")
    strange = "$(touch made); `touch made` > made"
    async with hook(KEEP, tmp_path / "seen", strange) as running:
        running.start(b"k", b'{"id":"7-0"}')
        await eventually(lambda: running.ended(b"k"))
    seen = json.loads((tmp_path / "seen").read_text())
    assert (seen["stdin"], seen["argv"]) == ('{"id":"7-0"}', [strange])
    assert "password" not in str(seen["environment"])
    assert seen["environment"]["FABRIC_NAMESPACE"] == "kept"
    assert caplog.records == []


async def test_an_end_is_told_once() -> None:
    async with hook("") as running:
        assert not running.ended(b"k")
        running.start(b"k", b"{}")
        await eventually(lambda: running.ended(b"k"))
        assert not running.ended(b"k")


async def test_a_key_has_one_run_at_a_time(tmp_path: Path) -> None:
    log, name = tmp_path / "log", tmp_path / "go"
    async with hook(STAY, log) as running:
        for _ in range(3):
            running.start(b"k", str(name).encode())
        await eventually(lambda: len(noted(log)) == 1)
        running.start(b"k", str(name).encode())
        name.touch()
        await eventually(lambda: running.ended(b"k"))
        running.start(b"k", str(name).encode())
        await eventually(lambda: running.ended(b"k"))
    assert [word for word, *_ in noted(log)] == ["+", "-", "+", "-"]


async def test_others_wait_their_turn(tmp_path: Path) -> None:
    log = tmp_path / "log"
    names = [str(tmp_path / f"go-{number}") for number in range(2 * PROCESSES_MAX)]
    async with hook(STAY, log) as running:
        for name in names:
            running.start(name.encode(), name.encode())
        for done, name in enumerate(names):
            lines = min(PROCESSES_MAX + done, len(names)) + done
            await eventually(partial(has_lines, log, lines))
            let_go(name)
            await eventually(partial(running.ended, name.encode()))
    at_once = most = 0
    for word, *_ in noted(log):
        at_once += 1 if word == "+" else -1
        most = max(most, at_once)
    assert most == PROCESSES_MAX


async def test_a_program_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    running = Hook(("/nowhere/notify", "--token", "secret"), LIMIT_S)
    running.start(b"k", b'{"question":"secret"}')
    await eventually(lambda: running.ended(b"k"))
    assert "hook /nowhere/notify cannot be started: No such file or directory" in caplog.text
    assert "secret" not in caplog.text
    await running.close()


async def test_arguments_that_are_none(caplog: pytest.LogCaptureFixture) -> None:
    async with hook("", "a\0b") as running:
        running.start(b"k", b"{}")
        await eventually(lambda: running.ended(b"k"))
    assert "cannot be started: ValueError" in caplog.text


async def test_a_program_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async with hook("import sys; print('secret', file=sys.stderr); sys.exit(3)") as running:
        running.start(b"k", b"secret")
        await eventually(lambda: running.ended(b"k"))
    assert f"hook {sys.executable} ended with exit code 3" in caplog.text
    assert "secret" not in caplog.text


async def test_a_program_that_reads_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with hook("") as running:
        running.start(b"k", b"x" * 1_000_000)
        await eventually(lambda: running.ended(b"k"))
    assert caplog.records == []


@pytest.mark.slow
async def test_a_run_over_its_time_is_killed_with_what_it_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pids = tmp_path / "pids"
    async with hook(LINGER, pids, limit_s=SHORT_S) as running:
        running.start(b"k", b"{}")
        await eventually(lambda: running.ended(b"k"))
    assert f"has not ended within {SHORT_S:g} s and was killed" in caplog.text
    assert pids_in(pids)
    await eventually(lambda: all(map(is_gone, pids_in(pids))))


async def test_close_kills_what_runs_and_starts_nothing_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pids = tmp_path / "pids"
    async with hook(LINGER, pids) as running:
        running.start(b"k", b"{}")
        await eventually(lambda: pids_in(pids))
    assert not running.ended(b"k")
    # A run that began all the same would be a task that the test leaves behind.
    running.start(b"new", b"{}")
    assert not running.ended(b"new")
    await eventually(lambda: all(map(is_gone, pids_in(pids))))
    assert caplog.records == []
