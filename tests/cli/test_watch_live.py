"""`fabric watch`: a session live in a pseudo-terminal, and as lines everywhere else."""

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl

import pytest

from tests.support.forked import Forked
from tests.support.servers import RunningServer
from tests.support.shell import Shell, end
from tests.support.waiting import until

#: What moves a terminal: colours, cursor, the alternate screen.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command on a pseudo-terminal of a given size."""

    def __init__(self, shell: Shell, *words: str, columns: int = 80, lines: int = 24) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fabric.cli", *words],
            cwd=shell.home,
            env=shell.environment(TERM="xterm-256color"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._seen = b""

    @property
    def text(self) -> str:
        """All that was written so far, without escapes."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                self._seen += os.read(self._master, 65_536)
            except OSError:  # the other end is closed
                break
        return _ESCAPES.sub("", self._seen.decode("utf-8", "replace"))

    def shows(self, words: str) -> Callable[[], bool]:
        return lambda: words in self.text

    def end(self) -> int:
        """Wait until the command has ended; read meanwhile, so that it can write."""
        limit = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < limit:
            _ = self.text
            time.sleep(0.02)
        return self.process.wait(0)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def work(shell: Shell) -> None:
    """One agent at work, another one that waits for it."""
    shell.good("emit", "STARTED", 'produces=["schema"]', "--stream", "A")
    shell.good("emit", "PROGRESS(50%)", "--checkpoint", "files_read", "--stream", "A")
    shell.good("emit", "BLOCKED(schema)", "--agent", "B", "--stream", "B")


def finish(shell: Shell) -> None:
    shell.good("emit", "COMPLETED")
    shell.good("emit", "COMPLETED", "--agent", "B")


def read_lines(process: Forked, count: int) -> list[str]:
    """Read so many lines of a command that goes on."""
    assert process.stdout is not None
    fd, seen = process.stdout.fileno(), b""
    limit = time.monotonic() + 30
    while seen.count(b"\n") < count:
        ready = select.select([fd], [], [], max(0, limit - time.monotonic()))[0]
        assert ready, seen
        seen += os.read(fd, 1)
    return seen.decode().splitlines()


def test_a_terminal_shows_the_session_until_ctrl_c(shell: Shell, session: str) -> None:
    terminal = Terminal(shell, "watch")
    try:
        until(terminal.shows("no agents yet"), "the first picture")
        work(shell)
        until(terminal.shows("2 agents: 1 active, 1 blocked"), "both agents")
        until(terminal.shows("B needs schema"), "the end of that picture")
        assert "█████·····  50 % active" in terminal.text
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 130
        assert "Traceback" not in terminal.text
        assert terminal.text.rstrip().endswith("B needs schema")
    finally:
        terminal.close()


def test_lines_are_printed_where_there_is_no_terminal(shell: Shell, session: str) -> None:
    process = shell.start("watch", session, "--stay")
    work(shell)
    lines = read_lines(process, 3)
    assert [line.split()[1] for line in lines] == ["STARTED", "PROGRESS(50%)", "BLOCKED(schema)"]
    process.send_signal(signal.SIGINT)
    done = end(process)
    assert (done.code, done.err.strip()) == (130, "")


def test_once_prints_one_picture_and_unknown_sessions_are_not_found(
    shell: Shell, session: str
) -> None:
    done = shell.run("watch", "--once")
    assert done.code == 3
    assert "no session" in done.err
    work(shell)
    until(lambda: "B" in shell.records("agents"), "both agents")
    lines = shell.good("watch", "--once").lines
    assert lines[0].startswith(f"{session}  0:0")
    assert any(line.startswith("A      A") and line.endswith("files_read") for line in lines)
    assert any(line.startswith("B      B") and line.endswith("schema") for line in lines)
    assert lines[-1].endswith("B needs schema")


@pytest.mark.slow
def test_it_ends_with_the_session_and_shows_questions(shell: Shell, session: str) -> None:
    """Without a synthesizer it waits a while for one: nothing says that the synthesis is final."""
    process = shell.start("watch", session)
    work(shell)
    shell.good("emit", "ESCALATE", "question=which port?", "id=q")
    until(lambda: "q" in shell.records("escalations"), "the question")
    finish(shell)
    done = end(process)
    assert (done.code, done.err) == (0, "")
    assert any(line.split()[:2] == ["(question)", "q:"] for line in done.lines), done.out
    assert any(line.split()[1] == "COMPLETED" for line in done.lines)


LISTED = """
[tasks.schema]
stream = "A"
terminal = 2
writes = ["db.sql"]
[tasks.index]
writes = ["db.sql"]
[tasks.release]
can_merge_after = ["schema", "index"]
"""


def begin(shell: Shell) -> None:
    """Fill the board, and let one agent take the first task."""
    (shell.home / "tasks.toml").write_text(LISTED)
    assert shell.run("tasks", "load", "tasks.toml", "--by", "anna").code == 0
    assert shell.good("tasks", "next", FABRIC_AGENT="X", FABRIC_STREAM="A").out == "schema\n"
    shell.good("emit", "PROGRESS(50%)", FABRIC_AGENT="X")


@pytest.fixture
def person(shell: Shell) -> Shell:
    del shell.variables["FABRIC_AGENT"]
    return shell


def test_a_terminal_shows_the_tasks_until_they_are_done(person: Shell, session: str) -> None:
    begin(person)
    terminal = Terminal(person, "status", session, "--follow")
    try:
        until(terminal.shows("schema offered to X: the most urgent that is ready"), "the picture")
        for shown in (
            "Stream A, terminal 2: 50 %, 0 of 1 completed, 1 in progress, about ",
            "█████·····  50 % in progress X",
            "schema writes db.sql (le",
            "after schema, index",
        ):
            assert shown in terminal.text
        person.good("tasks", "done", "schema", "index", "release", "--by", "anna")
        assert terminal.end() == 0
        assert "3 of 3 tasks completed" in terminal.text
    finally:
        terminal.close()


def test_tasks_are_lines_and_documents_where_there_is_no_terminal(
    person: Shell, session: str
) -> None:
    begin(person)
    assert person.run("status", session, "--follow", "--todo").code == 2
    lines = person.start("status", session, "--follow")
    documents = person.start("status", session, "--follow", "--json")
    first = read_lines(lines, 9)
    assert first[0].startswith("Tasks: 0 of 3 tasks completed, 1 in progress, 2 wait; about ")
    once = person.good("status").lines[5:13]
    assert [line.split()[:1] for line in first[1:]] == [line.split()[:1] for line in once]
    read_lines(documents, 1)
    person.good("tasks", "done", "schema", FABRIC_AGENT="X")
    person.good("tasks", "done", "index", "--by", "anna")
    # The task that has failed for good is tried no more.
    person.good("tasks", "next", FABRIC_AGENT="X")
    person.good("emit", "FAILED", "error=no disk", FABRIC_AGENT="X")
    done, told = end(lines), end(documents)
    assert (done.code, done.err, told.code) == (1, "", 1)
    said = [line.split(maxsplit=1)[1] for line in done.lines]
    assert "schema: completed, 100 %, X, unblocks release" in said
    assert "release offered to X: the most urgent that is ready" in said
    assert said[-1] == "release: failed, 0 %, X, fabric tasks retry release"
    last = told.json_lines[-1]
    assert (last["completed"], last["failed"], last["to_go_ms"]) == (2, 1, None)
    assert [one["stand"] for one in last["changed"]] == ["failed"]


def test_the_session_active_last_is_watched_when_none_is_named(quiet: Shell) -> None:
    done = quiet.run("watch", "--once", FABRIC_SESSION="")
    assert done.code == 3
    assert "no sessions yet" in done.err


@pytest.mark.slow
def test_without_rich_it_prints_lines_and_names_the_extra(shell: Shell, session: str) -> None:
    work(shell)
    finish(shell)
    (shell.home / "rich.py").write_text("raise ImportError('no rich here')\n")
    program = (
        "import sys; sys.path = [p for p in sys.path if p];"
        "import importlib.util as u; real = u.find_spec;"
        "u.find_spec = lambda name, *a: None if name == 'rich' else real(name, *a);"
        "sys.stdout.isatty = lambda: True; sys.argv = ['fabric', 'watch'];"
        "from fabric.cli import main; sys.exit(main())"
    )
    done = shell.run(program=program)
    assert done.code == 0, done
    assert "pip install 'signal-fabric[tui]'" in done.err
    assert "COMPLETED" in done.out


@pytest.mark.chaos
@pytest.mark.slow
def test_it_goes_on_after_an_outage(shell: Shell, server: RunningServer, session: str) -> None:
    work(shell)
    process = shell.start("watch", session, "--stay")
    read_lines(process, 3)
    server.cli("CLIENT", "KILL", "TYPE", "normal")
    shell.good("emit", "COMPLETED")
    assert "COMPLETED" in read_lines(process, 1)[0]
    process.send_signal(signal.SIGINT)
    assert end(process).err.strip() == ""
