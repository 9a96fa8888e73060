"""The hook: real processes, started, bounded and killed; every question at least once."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fabric.core.record import EscalationRecord, EscalationState
from fabric.core.rules import Rules
from tests.support.waiting import eventually
from tests.workers.troubled import PARTITION, TroubledStore, working
from workers import hook as hooks
from workers.child_process import PROCESSES_MAX
from workers.hook import Hook
from workers.replica import share

#: Seconds for a run that ends by itself; only a failing test takes this long.
LIMIT_S = 60.0
#: Seconds for a run that never ends: long enough for it to start.
SHORT_S = 2.0

#: Writes its input, arguments and environment into the file of its first argument, atomically.
KEEP = """
import json, os, sys
path = sys.argv[1]
seen = {"stdin": sys.stdin.read(), "argv": sys.argv[2:], "environment": dict(os.environ)}
with open(path + ".part", "w") as file:
    json.dump(seen, file)
os.rename(path + ".part", path)
"""

#: Notes its start and its end in a log; in between it waits for the file named on stdin.
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


def _turns() -> asyncio.Semaphore:
    return asyncio.Semaphore(PROCESSES_MAX)


@asynccontextmanager
async def hook(program: str, *arguments: object, limit_s: float = LIMIT_S) -> AsyncIterator[Hook]:
    running = Hook((sys.executable, "-c", program, *map(str, arguments)), _turns(), limit_s)
    try:
        yield running
    finally:
        await running.close()


def noted(log: Path) -> list[list[str]]:
    """Return the lines that runs have noted."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def has_lines(log: Path, count: int) -> bool:
    """Whether runs have noted at least that many lines."""
    return len(noted(log)) >= count


def let_go(name: str) -> None:
    """End the run that waits for the file of this name."""
    Path(name).touch()


def pids_in(file: Path) -> list[int]:
    """Return the pids of the program and its child; none before it has noted both."""
    pids = [int(pid) for pid in file.read_text().split()] if file.exists() else []
    return pids if len(pids) == 2 else []


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
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


async def test_an_end_is_reported_once() -> None:
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


async def test_further_runs_wait_for_their_turn(tmp_path: Path) -> None:
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
    running = Hook(("/nowhere/notify", "--token", "secret"), _turns())
    running.start(b"k", b'{"question":"secret"}')
    await eventually(lambda: running.ended(b"k"))
    assert "hook /nowhere/notify cannot be started: No such file or directory" in caplog.text
    assert "secret" not in caplog.text
    await running.close()


async def test_arguments_that_no_program_can_have(caplog: pytest.LogCaptureFixture) -> None:
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
    # If a run began all the same, the test would leave a task behind, and fail.
    running.start(b"new", b"{}")
    assert not running.ended(b"new")
    await eventually(lambda: all(map(is_gone, pids_in(pids))))
    assert caplog.records == []


async def test_what_a_program_leaves_running_goes_on(tmp_path: Path) -> None:
    background = "import subprocess, sys; p = subprocess.Popen(['sleep', '1000'])\n"
    background += "open(sys.argv[1], 'w').write(f'{p.pid} {p.pid}')"
    async with hook(background, tmp_path / "pids") as running:
        running.start(b"k", b"{}")
        await eventually(lambda: running.ended(b"k"))
    pid = pids_in(tmp_path / "pids")[0]
    assert not is_gone(pid)
    os.kill(pid, signal.SIGKILL)


#: Writes its input to a file of its own, then waits for the file `end`.
NOTIFIED = """
import os, pathlib, sys, time, uuid
folder = pathlib.Path(sys.argv[1])
with open(folder / "pids", "a") as file:
    file.write(f"{os.getpid()}\\n")
(folder / f"{uuid.uuid4()}.part").write_bytes(sys.stdin.buffer.read())
for part in folder.glob("*.part"):
    part.rename(part.with_suffix(".notice"))
while not (folder / "end").exists():
    time.sleep(0.01)
"""

TIMER = "s:hook:7-0"

#: Pairs of names of replicas; in some pair the partition belongs to the second.
NAMES = [("first", f"second-{number}") for number in range(20)]


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rules:
    monkeypatch.setattr(hooks, "PAUSE_MS", 20)
    return Rules(hook=(sys.executable, "-c", NOTIFIED, str(tmp_path)))


def asked() -> TroubledStore:
    """A session with an open question that the hook must hear of."""
    store = TroubledStore()
    question = EscalationRecord(EscalationState.OPEN, "May I?", "A", context=msgspec.Raw(b"[1]"))
    keys = PARTITION.session("s")
    store.data.hash(keys.meta)[b"opened_ms"] = b"1"
    store.data.hash(keys.escalations)[b"7-0"] = msgspec.json.encode(question)
    store.data.sorted_set(PARTITION.deadlines)[TIMER.encode()] = 1
    return store


def notices(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in folder.glob("*.notice")]


async def test_a_question_is_passed_on_and_its_timer_goes_when_that_is_over(
    tmp_path: Path, rules: Rules
) -> None:
    store = asked()
    async with working(store, rules=rules):
        await eventually(lambda: notices(tmp_path), "the hook is notified")
        commits = store.commits
        await eventually(lambda: store.commits > commits + 2, "it was put off several times")
        assert not await store.has_no_timer()
        (tmp_path / "end").touch()
        await eventually(store.has_no_timer, "the timer is gone")
    (document,) = notices(tmp_path)
    assert (document["session"], document["id"], document["question"]) == ("s", "7-0", "May I?")
    assert (document["asker"], document["state"], document["context"]) == ("A", "open", [1])
    # It is not an event of the session.
    assert store.log("s") == []


async def test_a_worker_that_stops_kills_its_hook_and_the_next_runs_it_again(
    tmp_path: Path, rules: Rules
) -> None:
    store = asked()
    async with working(store, rules=rules):
        await eventually(lambda: notices(tmp_path), "the hook is notified")
    assert is_gone(int((tmp_path / "pids").read_text()))
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not await store.has_no_timer()
    async with working(TroubledStore(store.data), rules=rules):
        await eventually(lambda: len(notices(tmp_path)) == 2, "it is notified again")
        (tmp_path / "end").touch()
        await eventually(store.has_no_timer, "the timer is gone")


async def test_a_worker_that_stops_at_once_kills_its_hook_too(tmp_path: Path, rules: Rules) -> None:
    async with working(asked(), rules=rules) as work:
        await eventually(lambda: notices(tmp_path), "the hook is notified")
        work.running.cancel()
        await asyncio.gather(work.running, return_exceptions=True)
        assert is_gone(int((tmp_path / "pids").read_text()))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        work.running = asyncio.create_task(asyncio.sleep(0))


async def test_a_partition_that_is_handed_over_takes_its_hook_along(
    tmp_path: Path, rules: Rules
) -> None:
    store = asked()
    flags = {"lease_ms": 300}
    names = next(pair for pair in NAMES if share(pair[1], 1, list(pair)) == {0})
    async with working(store, rules=rules, name=names[0], **flags):
        await eventually(lambda: notices(tmp_path), "the hook is notified")
        async with working(TroubledStore(store.data), rules=rules, name=names[1], **flags):
            await eventually(lambda: len(notices(tmp_path)) == 2, "the other replica runs it again")
            first, second = map(int, (tmp_path / "pids").read_text().split())
            assert is_gone(first)
            assert not is_gone(second)
            (tmp_path / "end").touch()
            await eventually(store.has_no_timer, "the timer is gone")


async def test_without_a_hook_or_a_question_nothing_is_left_to_do(rules: Rules) -> None:
    for chosen, field in ((Rules(), b"7-0"), (rules, b"another")):
        store = asked()
        questions = store.data.hash(PARTITION.session("s").escalations)
        questions[field] = questions.pop(b"7-0")
        async with working(store, rules=chosen):
            await eventually(store.has_no_timer, "the timer is gone")
