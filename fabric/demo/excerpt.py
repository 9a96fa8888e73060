"""Text from outside, made fit to show: printable, on one line, bounded."""

from __future__ import annotations

from fabric.wire.printable import printable

#: Characters of a source line, a path or a name that a message carries. Longer adds nothing to a
#: report.
EXCERPT_CHARS_MAX = 160


def excerpt(text: str, chars_max: int = EXCERPT_CHARS_MAX) -> str:
    """Return the trimmed, printable start of `text`; what was cut is marked by an ellipsis."""
    # Cut before anything else: a line may be a million characters long.
    start = text[: 20 * chars_max].strip()[: chars_max + 1]
    shown = printable(start.replace("\t", " "))
    if len(shown) > chars_max:
        return shown[: chars_max - 1] + "…"
    return shown
