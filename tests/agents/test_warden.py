"""Nothing of a command outlives its warden, nor the one who holds the other end of its pipe."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

import pytest

from fabric.agents import warden
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="adopts orphans on Linux only")

#: Starts two processes that outlive it: one in its group, one in a session of its own that ignores
#: SIGTERM. Prints their pids.
PARENT = """
import subprocess, sys
wait = "import signal, time; signal.signal(15, {}); print(flush=True); time.sleep(600)"
words = [sys.executable, "-S", "-c"]
one = subprocess.Popen([*words, wait.format("signal.SIG_DFL")], stdout=-1)
two = subprocess.Popen([*words, wait.format("signal.SIG_IGN")], stdout=-1, start_new_session=True)
one.stdout.readline(), two.stdout.readline()
print(one.pid, two.pid, flush=True)
"""


def start(*command: str, lock: str = "") -> tuple[subprocess.Popen[str], int]:
    lifeline, ours = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", warden.__file__, str(lifeline), lock, *command],
        pass_fds=(lifeline,),
        stdout=PIPE,
        stderr=PIPE,
        text=True,
        process_group=0,
    )
    os.close(lifeline)
    return process, ours


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow  # the stubborn one has its time
def test_a_command_that_ends_leaves_nothing_behind() -> None:
    process, ours = start(sys.executable, "-S", "-c", PARENT + "sys.exit(3)")
    out, _ = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 3
    assert not any(map(is_alive, map(int, out.split())))


def test_when_its_supervisor_is_gone_all_of_it_is_killed() -> None:
    process, ours = start(sys.executable, "-S", "-c", PARENT + "import time; time.sleep(600)")
    assert process.stdout is not None
    pids = [*map(int, process.stdout.readline().split())]
    assert all(map(is_alive, pids))
    os.close(ours)
    assert process.wait(timeout=30) == 128 + signal.SIGKILL
    until(lambda: not any(map(is_alive, pids)))
    process.communicate()


def test_sigterm_reaches_the_command() -> None:
    said = "import signal, sys; signal.signal(15, lambda *_: sys.exit(9)); print(flush=True)"
    process, ours = start(sys.executable, "-S", "-c", f"{said}; signal.pause()")
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(timeout=30) == 9
    process.communicate()
    os.close(ours)


def test_a_signal_that_ends_the_command_is_in_the_exit_code() -> None:
    process, ours = start("sh", "-c", "kill -9 $$")
    process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 128 + signal.SIGKILL


def test_a_command_that_is_not_there() -> None:
    process, ours = start("no-such-command")
    _, error = process.communicate(timeout=30)
    os.close(ours)
    assert (process.returncode, "no-such-command" in error) == (127, True)


def test_the_agent_daemon_lives_on_for_the_other_agents_of_this_host(tmp_path: Path) -> None:
    """The first hook of a client starts it, and that may be below a warden."""
    lock = tmp_path / "daemon.lock"
    text = PARENT.replace('600)"', '600)  # -m fabric.agents"')
    text += f"open({str(lock)!r}, 'w').write(str(two.pid))\n"
    process, ours = start(sys.executable, "-S", "-c", text, lock=str(lock))
    assert process.stdout is not None
    other, daemon = map(int, process.stdout.readline().split())
    process.wait(30)
    os.close(ours)
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()
    try:
        assert not is_alive(other)
        assert is_alive(daemon)
    finally:
        with suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)
