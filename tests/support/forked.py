"""Processes forked from one that has imported the program: see `tests/support/forkserver.py`."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO, Any

from tests.support.forkserver import HEADER
from tests.support.servers import ROOT

#: Seconds for the server to fork; only the first request waits for its imports.
FORK_SECONDS_MAX = 60.0


class Forked:
    """`python -m module words` as a forked process, used as a `subprocess.Popen[str]` is.

    `stdin`, `stdout` and `stderr` are PIPE, DEVNULL, None for the test's own, or an open file;
    `newline` is that of `open`, for pipes.
    """

    def __init__(
        self,
        module: str,
        words: Sequence[str],
        *,
        cwd: str | Path,
        env: Mapping[str, str],
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        newline: str | None = None,
    ) -> None:
        self.args = [module, *words]
        self.returncode: int | None = None
        passed: list[int] = []
        ours: list[TextIOWrapper | None] = []
        for number, given in enumerate((stdin, stdout, stderr)):
            their_end, our_end = _end(number, given, newline)
            passed.append(their_end)
            ours.append(our_end)
        self.stdin, self.stdout, self.stderr = ours
        self._told, telling = os.pipe()
        self._said = b""
        request = {
            "module": module,
            "words": list(words),
            "folder": os.fspath(cwd),
            "environment": dict(env),
        }
        text = json.dumps(request).encode()
        try:
            with _turn:
                server = _server()
                socket.send_fds(server, [HEADER.pack(len(text))], [*passed, telling])
                server.sendall(text)
        finally:
            for file in (*passed, telling):
                os.close(file)
        if not self._is_told(FORK_SECONDS_MAX):
            raise subprocess.TimeoutExpired(self.args, FORK_SECONDS_MAX)
        self.pid = self._read()

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs; -9 after SIGKILL."""
        if self.returncode is None and self._is_told(0.0):
            self.returncode = self._read()
            os.close(self._told)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not self._is_told(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, given: bytes = b"", timeout: float | None = None) -> tuple[str, str]:
        """Write what is given and close its input; return what is left of its output at its end."""
        limit = None if timeout is None else time.monotonic() + timeout
        texts: dict[int, str] = {}

        def read(number: int, stream: TextIOWrapper) -> None:
            with stream:
                texts[number] = stream.read()

        streams = [stream for stream in (self.stdout, self.stderr) if stream and not stream.closed]
        readers = [
            threading.Thread(target=read, args=(id(stream), stream), daemon=True)
            for stream in streams
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None and not self.stdin.closed:
            with suppress(BrokenPipeError), self.stdin:
                self.stdin.flush()
                self.stdin.buffer.write(given)
        for reader in readers:
            reader.join(None if limit is None else max(0.0, limit - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait(None if limit is None else max(0.0, limit - time.monotonic()))
        return texts.get(id(self.stdout), ""), texts.get(id(self.stderr), "")

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self.wait()

    def _is_told(self, seconds: float | None) -> bool:
        """Whether the server has written something within some seconds; None waits for ever."""
        found, _, _ = select.select([self._told], [], [], seconds)
        return bool(found)

    def _read(self) -> int:
        """Return the next number from the server."""
        while b"\n" not in self._said:
            more = os.read(self._told, 64)
            if not more:
                raise RuntimeError(f"the fork server ended before {self.args}")
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return int(line)


#: One request at a time goes to the server.
_turn = threading.Lock()


@cache
def _server() -> socket.socket:
    """Start the server of this process of pytest; it ends with us."""
    ours, theirs = socket.socketpair()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FABRIC_", "PYTHON"))}
    argv = [sys.executable, "-m", "tests.support.forkserver"]
    with theirs:
        process = subprocess.Popen(argv, cwd=ROOT, env=kept, stdin=theirs.fileno())
    process.returncode = 0  # nobody waits for it
    return ours


def _end(
    number: int, given: int | IO[Any] | None, newline: str | None
) -> tuple[int, TextIOWrapper | None]:
    """Return the file descriptor that the process gets, and our end of a pipe."""
    if given is None:
        return os.dup(number), None
    if given == DEVNULL:
        return os.open(os.devnull, os.O_RDWR), None
    if given != PIPE:
        return os.dup(given if isinstance(given, int) else given.fileno()), None
    reading, writing = os.pipe()
    if number == 0:
        return reading, TextIOWrapper(BufferedWriter(FileIO(writing, "w")), newline=newline)
    return writing, TextIOWrapper(BufferedReader(FileIO(reading)), newline=newline)
