"""Events that could not be handled when they came, kept on disk until they can be.

One file an event, in the order in which they came; the hook writes them too (`fallback.py`). The
number is bounded: the oldest stay, since they say what was written first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from fabric.agents.fallback import SPOOL_MAX
from fabric.agents.request import Request, parse
from fabric.errors import CallerError


class Spool:
    """The events in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number = 0

    def __len__(self) -> int:
        return sum(not name.startswith(".") for name in os.listdir(self._folder))  # noqa: PTH208 - names are all that is needed

    def keep(self, request: Request) -> None:
        """Keep an event."""
        if len(self) >= SPOOL_MAX:
            return
        self._number += 1
        name = f"{time.time_ns():020d}-{os.getpid()}-{self._number}"
        fresh = self._folder / f".{name}"
        fresh.write_bytes(request.frame)
        fresh.rename(self._folder / name)

    def kept(self) -> Iterator[tuple[Path, Request]]:
        """Yield what is kept, the oldest first; `drop` what was handled."""
        for path in sorted(one for one in self._folder.iterdir() if not one.name.startswith(".")):
            try:
                yield path, parse(path.read_bytes())
            except (CallerError, OSError):
                self.drop(path)

    @staticmethod
    def drop(path: Path) -> None:
        """Forget an event."""
        with suppress(OSError):
            path.unlink()
