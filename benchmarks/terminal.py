"""Words for the person who waits: on stderr, and progress only on a terminal."""

from __future__ import annotations

import sys


def progress(text: str) -> None:
    """Show what is being done in place of what was shown last; "" clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
