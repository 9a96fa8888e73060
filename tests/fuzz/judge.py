"""Whether a target keeps its contract on one input: its answers, its time, its memory."""

from __future__ import annotations

import re
import resource
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.fuzz.target import Target

#: Processor time that one input may take, ms. The slowest honest one takes a tenth of it, traced by
#: a fuzzer and on a slow machine; what grows with the square of an input takes more.
CPU_MS_MAX = 3_000

#: Bytes by which one input may make the process larger than it ever was.
GROWTH_BYTES_MAX = 256 << 20

#: What `ru_maxrss` counts in: KiB on Linux, bytes on macOS.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024

#: What Linux says of this process.
_STATUS = Path("/proc/self/status")


class HangError(AssertionError):
    """One input took too much processor time."""


class HogError(AssertionError):
    """One input took too much memory."""


class _Late(BaseException):
    """The time is over."""


def judge(target: Target, data: bytes) -> str:
    """Run a target on one input; return the name of its answer, "" when it had nothing to say.

    Raises what the target may not raise: another error, HangError, HogError. For the main thread.
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
    """The peak since this program began, as Linux knows it."""
    found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    return int(found[1]) * 1024 if found else _counted_bytes()


#: Linux counts the peak of whoever started a program as its own: beside that, growth is not seen.
_peak_bytes = _own_bytes if _counted_bytes() > _own_bytes() else _counted_bytes


def _is_late(_: int, __: FrameType | None) -> None:
    raise _Late
