"""The files that an `apply_patch` of Codex touches. It has its own format, not that of diff(1)."""

from __future__ import annotations

import re

#: The headers of the format: one for each file, and the new name of one that moves.
_HEADER = re.compile(
    r"^\*\*\* (?:Add|Update|Delete) File: (.+?)\s*$|^\*\*\* Move to: (.+?)\s*$", re.M
)


def paths(patch: str) -> tuple[str, ...]:
    """Return the files that a patch adds, updates, deletes or moves, in both places; none twice."""
    found = (old or new for old, new in _HEADER.findall(patch))
    return tuple(dict.fromkeys(found))
