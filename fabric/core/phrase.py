"""Parts of the sentences that the rules say."""

from __future__ import annotations

from fabric.core.limits import NAMES_SHOWN_MAX


def listed(names: list[str]) -> str:
    """Join names, the first of them when there are many."""
    shown = ", ".join(names[:NAMES_SHOWN_MAX])
    more = len(names) - NAMES_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown
