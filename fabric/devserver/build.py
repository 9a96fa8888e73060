"""Which server a program is: its family and version, its known holes, and whose data it can read.

`HOLES` lists what lets an ordinary client, as every agent is, run its own code in the server. It
is not complete: holes that need other settings (TLS, a writable replica, client eviction) are left
out. A distribution can mend a hole without a new number, so a number alone proves nothing bad.

Sources, read in November 2026: 00-RELEASENOTES of redis and valkey at the versions named; the
GitHub releases of redis 7.2.14 and valkey 9.0.3, 9.1.0; docker-library/official-images#20011; the
CVE records; GHSA-c8h9-259x-jff4. Valkey 9.0.0-rc3 mends the holes of October 2025.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Build(NamedTuple):
    """A server: "redis" or "valkey", and its version."""

    family: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.family} {'.'.join(map(str, self.version))}"

    @property
    def line(self) -> tuple[int, int]:
        """The line of releases that keeps one format of data: 7.0, 8.2."""
        return self.version[:2]

    def can_read(self, writer: Build) -> bool:
        """Whether it loads what another has written. It follows from their versions of RDB.

        Valkey left Redis at 7.2 (RDB 11) and kept that until 9.0 (RDB 80); Redis went on with 12.
        """
        if self.family == writer.family:
            return self.line >= writer.line
        if self.family == "valkey":
            return writer.line <= (7, 2)
        return self.line >= (7, 2) and writer.line < (9, 0)


#: Line of releases → the first number in it that has the mend.
Mended = dict[tuple[int, int], int]

#: Names of the holes that one set of releases mends → where Redis, and where Valkey, is mended. An
#: older line that is not named stays open. Of Valkey 8.0 we saw the last hole mended in 8.0.9, and
#: found no notes of it for 7.2.
HOLES: dict[str, dict[str, Mended]] = {
    "CVE-2024-31449": {
        "redis": {(6, 2): 16, (7, 2): 6, (7, 4): 1},
        "valkey": {(7, 2): 7, (8, 0): 1},
    },
    "CVE-2024-46981": {
        "redis": {(6, 2): 17, (7, 2): 7, (7, 4): 2},
        "valkey": {(7, 2): 8, (8, 0): 2},
    },
    "CVE-2025-49844 (RediShell), CVE-2025-46817, CVE-2025-46818, CVE-2025-46819": {
        "redis": {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
        "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
    },
    "CVE-2026-25243": {
        "redis": {(6, 2): 22, (7, 2): 14, (7, 4): 9, (8, 2): 6, (8, 4): 3, (8, 6): 3},
        "valkey": {(8, 0): 9, (8, 1): 7, (9, 0): 4},
    },
}


def parse(said: str) -> Build | None:
    """Read "redis 7.0.15", or the line of `redis-server --version`; None when it is neither."""
    found = re.search(r"(?i)\b(redis|valkey) (?:server v=)?(\d+)\.(\d+)\.(\d+)", said)
    if not found:
        return None
    return Build(found[1].lower(), (int(found[2]), int(found[3]), int(found[4])))


def open_holes(build: Build) -> list[str]:
    """Return the names in `HOLES` that a server of this version has."""
    return [names for names, mended in HOLES.items() if _is_open(build, mended[build.family])]


def _is_open(build: Build, mended: Mended) -> bool:
    if build.line in mended:
        return build.version[2] < mended[build.line]
    return build.line < max(mended)
