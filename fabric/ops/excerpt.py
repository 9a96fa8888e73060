"""Lines of the files that findings are about, as far as they are on this machine.

What agents name as a path may be anything. Only files inside the project are read, none whose name
or folder begins with a dot (`.env`, `.git`), and none through a link that leads out of the project.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

#: Lines of code shown with a finding.
LINES_MAX = 6

#: Bytes of a file that is read: source code is shorter.
FILE_BYTES_MAX = 1_048_576

#: Characters of a line of code; longer ones are generated.
CHARS_MAX = 160

#: Files kept in memory.
FILES_MAX = 32


class Excerpts:
    """Reads lines of a project's files; `root` is the folder where the names of files begin."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._read = lru_cache(FILES_MAX)(self._lines)

    def __call__(self, path: str, line: int, end_line: int) -> list[str]:
        """Return lines of a file, from `line` on; none if it may not or cannot be read."""
        found = self._read(path)[line - 1 : min(end_line, line + LINES_MAX - 1)]
        return [one[: CHARS_MAX - 1] + "…" if len(one) > CHARS_MAX else one for one in found]

    def _lines(self, path: str) -> list[str]:
        if any(part.startswith(".") for part in Path(path).parts):
            return []
        try:
            file = (self._root / path).resolve()
            inside = file.relative_to(self._root)
            if any(part.startswith(".") for part in inside.parts) or not file.is_file():
                return []
            if file.stat().st_size > FILE_BYTES_MAX:
                return []
            return file.read_text("utf-8").splitlines()
        except (OSError, ValueError, RuntimeError):
            # ValueError: outside, no UTF-8, or a NUL in the name; RuntimeError: links in a circle.
            return []
