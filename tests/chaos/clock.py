"""Clocks that jump: libfaketime, preloaded into a process, reads the jump from a file.

Only the time of day jumps, as with a wrong NTP server; the monotonic clock does not. scripts/chaos
fetches the library. A server whose allocator reads the time before the library is ready does not
start with it: Redis with jemalloc is one.
"""

import subprocess
from pathlib import Path

from tests.support.servers import ROOT, binary

#: Where scripts/chaos unpacks the library, in the folders of its Debian package.
PLACE = ROOT / ".servers" / "faketime"
#: Seconds until every process has noticed a jump.
NOTICED_S = 1.2


def library() -> Path | None:
    """Return the library, or None when it is not on this machine."""
    return next(iter(sorted(PLACE.rglob("libfaketimeMT.so.1"))), None)


def faked(clock: Path) -> dict[str, str]:
    """Return the environment of a process with its own clock; empty without the library."""
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
    """Set a clock's offset from now on."""
    # Atomically: a reader must not find the file empty.
    new = clock.with_suffix(".new")
    new.write_text(f"{offset_s:+d}\n")
    new.rename(clock)


def clock_of(extra: dict[str, str]) -> Path | None:
    """Return the clock file of a process with this environment, if it has one."""
    place = extra.get("FAKETIME_TIMESTAMP_FILE")
    return Path(place) if place else None


def can_be_faked(flavour: str) -> bool:
    """Return whether this server can start with the library."""
    if library() is None:
        return False
    version = subprocess.run(
        [binary(flavour), "--version"], capture_output=True, text=True, check=True
    ).stdout
    return "malloc=libc" in version
