"""What a refused emitter reads: the field, what it gave, and what is allowed."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from fabric.core.signal import SignalType
from fabric.errors import SignalError

#: Characters of a refused value that a message repeats. Enough to recognise it by.
SHOWN_CHARS_MAX = 80

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")


def shown(value: object) -> str:
    """Show a refused value: printable, one line, bounded."""
    text = repr(value.decode() if isinstance(value, bytes) and _is_text(value) else value)
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}… ({len(text)})"


def excess(field: str, given: int, allowed: str) -> SignalError:
    """Say that something is too large, with both figures."""
    return SignalError("LIMIT", field, str(given), f"at most {allowed}")


def payload(kind: SignalType, raw: bytes, error: Exception) -> SignalError:
    """Turn a decoder's error into one that names field, value and what is allowed."""
    if not isinstance(error, msgspec.ValidationError):
        return SignalError("JSON", "payload", shown(raw), f"a JSON object ({error})")
    text = str(error)
    found = _PATH.search(text)
    path = found["path"] if found else ""
    missing = _MISSING.search(text)
    if missing:
        field = f"{path}.{missing['field']}".lstrip(".")
        return SignalError("MISSING", field, "nothing", f"{kind.value} needs it")
    said = _PATH.sub("", text)
    return SignalError("VALUE", path or "payload", _given(raw, path), said[0].lower() + said[1:])


def _given(raw: bytes, path: str) -> str:
    """Look up the value that a decoder's path points at."""
    try:
        value: Any = msgspec.json.decode(raw)
        for part in re.findall(r"[^.\[\]]+", path):
            value = value[int(part)] if isinstance(value, list) else value[part]
    except (msgspec.MsgspecError, LookupError, ValueError, TypeError, RecursionError):
        return shown(raw)
    return shown(value)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
