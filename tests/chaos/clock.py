"""Clocks that jump: a library that stands before the system's, and reads the jump from a file.

Only the time of day jumps, as a wrong NTP server would have it; what measures durations does not.
scripts/chaos fetches the library (libfaketime). A server whose allocator asks for the time before
the library is ready cannot be started with it: Redis with jemalloc is one.
"""

import subprocess
from pathlib import Path

from tests.support.servers import ROOT, binary

#: Where scripts/chaos unpacks the library; below it is the distribution's folder for libraries.
PLACE = ROOT / ".servers" / "faketime"
#: Seconds until a jump is noticed by every process.
NOTICED_S = 1.2


def library() -> Path | None:
    """The library; None when it is not on this machine."""
    return next(iter(sorted(PLACE.rglob("libfaketimeMT.so.1"))), None)


def faked(clock: Path) -> dict[str, str]:
    """The environment of a process with a clock of its own; empty where there is no library."""
    found = library()
    if found is None:
        return {}
    clock.parent.mkdir(parents=True, exist_ok=True)
    set_clock(clock, 0)
    return {
        "LD_PRELOAD": str(found),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(clock: Path, offset_s: int) -> None:
    """Let a clock be wrong by so much from now on."""
    # In one step: a reader must not find it empty.
    new = clock.with_suffix(".new")
    new.write_text(f"{offset_s:+d}\n")
    new.rename(clock)


def clock_of(extra: dict[str, str]) -> Path | None:
    """The clock of a process with this environment, if it has one of its own."""
    place = extra.get("FAKETIME_TIMESTAMP_FILE")
    return Path(place) if place else None


def can_be_faked(flavour: str) -> bool:
    """Whether this server can be started with the library."""
    if library() is None:
        return False
    version = subprocess.run(
        [binary(flavour), "--version"], capture_output=True, text=True, check=True
    ).stdout
    return "malloc=libc" in version
