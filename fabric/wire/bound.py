"""How large and how deep a value may be, found out before a parser touches it."""

from __future__ import annotations

import re

from fabric.core.limits import PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX
from fabric.errors import SignalError
from fabric.wire import complaint

#: A string, closed or not: with the open one in, no text makes the search go back to its start.
STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def check_payload(raw: bytes) -> None:
    """Refuse a payload that is too large, too deep or no text. Raises SignalError."""
    if not raw.isascii():
        text("payload", raw)
    elif len(raw) > PAYLOAD_BYTES_MAX:
        raise complaint.excess("payload", len(raw), f"{PAYLOAD_BYTES_MAX} bytes")
    if raw.count(b"{") + raw.count(b"[") > PAYLOAD_DEPTH_MAX and _depth(raw) > PAYLOAD_DEPTH_MAX:
        raise complaint.excess("payload", _depth(raw), f"{PAYLOAD_DEPTH_MAX} levels of nesting")


def text(field: str, value: bytes) -> str:
    """Return a value that is no larger than a payload, as text. Raises SignalError."""
    if len(value) > PAYLOAD_BYTES_MAX:
        raise complaint.excess(complaint.named(field), len(value), f"{PAYLOAD_BYTES_MAX} bytes")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise SignalError(
            "VALUE", complaint.named(field), complaint.shown(value), "UTF-8 text"
        ) from None


def _depth(raw: bytes) -> int:
    deepest = level = 0
    for bracket in STRINGS.sub(b"", raw).translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            level += 1
            deepest = max(deepest, level)
        else:
            level -= 1
    return deepest
