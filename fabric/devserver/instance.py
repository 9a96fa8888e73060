"""Which living process uses an agent's name: its id, and whether it still lives.

An id is `HOST/PID/SCOPE-START-NUMBER`: the pid, where it is valid, when the process began, and a
number for each agent in it. A pid alone proves nothing, because pids are used again. Whether a
process on another host lives cannot be seen from here: then it counts as alive.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import count
from pathlib import Path

from fabric.devserver.lock import host

_ID = re.compile(r"(?P<host>[^/]+)/(?P<pid>\d{1,10})/(?P<scope>\d*)-(?P<start>\d*)-\d+", re.ASCII)

#: The agents in this process that are in use, by their ids.
_in_use: set[str] = set()
_numbers = count(1)


def begin() -> str:
    """Return a new id of an agent in this process."""
    name, scope = _place()
    _, start = _state(os.getpid())
    found = f"{name}/{os.getpid()}/{scope}-{start}-{next(_numbers)}"
    _in_use.add(found)
    return found


def end(instance: str) -> None:
    """Take note that an agent in this process is not in use any more."""
    _in_use.discard(instance)


def is_gone(instance: str) -> bool:
    """Whether the process with this id has certainly ended. Never raises."""
    found = _ID.fullmatch(instance)
    if found is None or (found["host"], found["scope"]) != _place():
        return False
    pid = int(found["pid"])
    if pid == os.getpid():
        return instance not in _in_use
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    state, start = _state(pid)
    return state in ("Z", "X") or (bool(start and found["start"]) and start != found["start"])


def _place() -> tuple[str, str]:
    """Return this host and the number of its pid namespace, "" where there is none."""
    name, _, namespace = host().partition(" ")
    return name, re.sub(r"\D", "", namespace)


def _state(pid: int) -> tuple[str, str]:
    """Return a process's state and when it began, in the kernel's ticks; "" where it is hidden."""
    with suppress(OSError):
        # The program's name is in parentheses and may contain any character.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        if len(fields) > 19:
            return fields[0], fields[19]
    return "", ""
