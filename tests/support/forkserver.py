"""A process that has imported the program once, and forks one process for each command.

Starting Python and importing everything takes a third of a second of processor time, a fork a few
milliseconds. What runs is a process like any other, with its own id, environment, folder, files
and signals. `tests/support/forked.py` asks for them. A test of imports, or of how the interpreter
starts and ends, runs `sys.executable` instead.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any

#: Length of a request's text, before it on the socket.
HEADER = struct.Struct("!I")
#: Standard input, output and error, and the pipe for the id and the exit code.
FILES = 4

#: What is imported before the first fork.
_PACKAGES = ("fabric", "workers")
#: What no command imports: the entry points, which run as `__main__`, and the library for tests.
_LEFT_OUT = ("__main__", "fabric.testing")


@dataclass(frozen=True)
class Request:
    """What to run: `python -m module words`."""

    module: str
    words: list[str]
    folder: str
    environment: dict[str, str]


def main() -> None:
    """Serve the socket that is given as standard input, until its other end is closed."""
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for package in _PACKAGES:
        _import_all(package)
    gc.collect()
    gc.freeze()  # a collection in a child would copy all pages
    assert threading.active_count() == 1, "a fork would lose a thread"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests; their end ends us
    request = _serve(control)
    if request is not None:  # we are a child
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the pipes of the others
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)


def _import_all(package: str) -> None:
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, f"{package}."):
        if not any(part in module.name for part in _LEFT_OUT):
            importlib.import_module(module.name)


def _serve(control: socket.socket) -> Request | None:
    """Return a request in the child that it is for, and None in the server when nobody asks."""
    running: dict[int, int] = {}  # process id -> the pipe that takes its exit code
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with control, wake, waker, selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wake:
                    wake.recv(4096)
                    _reap(running)
                    continue
                asked = _receive(control)
                if asked is None:
                    for pid in running:
                        os.kill(pid, signal.SIGKILL)
                    return None
                request, files = asked
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    _become(request, files[:3])
                    return request
                for file in files[:3]:
                    os.close(file)
                running[pid] = files[3]
                os.write(files[3], b"%d\n" % pid)


def _reap(running: dict[int, int]) -> None:
    """Tell of each process that has ended."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        told = running.pop(pid)
        with suppress(BrokenPipeError):  # nobody waits for it
            os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(told)


def _receive(control: socket.socket) -> tuple[Request, list[int]] | None:
    head, files, _, _ = socket.recv_fds(control, HEADER.size, FILES)
    if not head:
        return None
    (size,) = HEADER.unpack(head)
    text = b""
    while len(text) < size:
        text += control.recv(size - len(text))
    return Request(**json.loads(text)), list(files)


def _become(request: Request, files: list[int]) -> None:
    """Make this process what a start of the interpreter would make it."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    os.chdir(request.folder)
    further = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in further if folder and folder not in sys.path]
    sys.argv = [request.module, *request.words]
    for name, number, mode in (("stdin", 0, "rb"), ("stdout", 1, "wb"), ("stderr", 2, "wb")):
        old: Any = getattr(sys, name)
        binary: Any = open(number, mode, closefd=False)  # noqa: SIM115 - open as long as we run
        binary.raw.name = f"<{name}>"
        stream = TextIOWrapper(
            binary,
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=number == 2 or os.isatty(number),
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main()
