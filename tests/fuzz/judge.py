"""Check that a target keeps its contract on one input: its errors, its time, its memory."""

from __future__ import annotations

import re
import resource
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.fuzz.target import Target

#: Processor time that one input may take, ms. The slowest regular input takes a tenth of it, traced
#: by a fuzzer on a slow machine; an algorithm that is quadratic in the input takes more.
CPU_MS_MAX = 3_000

#: Bytes by which one input may raise the peak memory of the process.
GROWTH_BYTES_MAX = 256 << 20

#: Unit of `ru_maxrss`: KiB on Linux, bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024

#: Linux's status of this process.
_STATUS = Path("/proc/self/status")


class HangError(AssertionError):
    """One input took too much processor time."""


class HogError(AssertionError):
    """One input took too much memory."""


class _Late(BaseException):
    """The time is over."""


def judge(target: Target, data: bytes) -> str:
    """Run a target on one input; return the name of the error that it raised, or "".

    Raises any other error of the target, HangError and HogError. Call it in the main thread.
    """
    before = _peak_bytes()
    answer = ""
    previous = signal.signal(signal.SIGVTALRM, _is_late)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_MS_MAX / 1000)
        try:
            target.run(data)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except target.answers as error:
        answer = type(error).__name__
    except _Late:
        raise HangError(f"{target.name}: over {CPU_MS_MAX} ms of processor time") from None
    finally:
        signal.signal(signal.SIGVTALRM, previous)
    growth = _peak_bytes() - before
    if growth > GROWTH_BYTES_MAX:
        raise HogError(f"{target.name}: {growth >> 20} MiB more for one input")
    return answer


def _counted_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _own_bytes() -> int:
    """Return the peak memory since this program began, as Linux counts it."""
    found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    return int(found[1]) * 1024 if found else _counted_bytes()


#: Linux adds the peak of the parent process to `ru_maxrss`, which would hide our own growth.
_peak_bytes = _own_bytes if _counted_bytes() > _own_bytes() else _counted_bytes


def _is_late(_: int, __: FrameType | None) -> None:
    raise _Late
