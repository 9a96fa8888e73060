"""The error of a refused signal: which field, what it held, and what is allowed.

Also checks the limits of a payload, before a parser touches it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import inspect

from fabric.core.limits import NAME_CHARS_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX
from fabric.core.signal import EXTENSIONS, PAYLOADS, SignalType
from fabric.core.synthesis import delta
from fabric.errors import SignalError

#: Characters of a refused value, or of a field's name, that a message repeats to recognise it.
SHOWN_CHARS_MAX = 80

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")
_PARTS = re.compile(r"[^.\[\]]+")


def shown(value: object) -> str:
    """Return a refused value for a message: printable, on one line, not too long."""
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            value = value.decode()
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        # Nested too deeply for the stack, or a number with more digits than Python prints.
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}… ({len(text)})"


def shown_name(field: str) -> str:
    """Return the name of a field, which an emitter can choose freely, for a message."""
    return field if field.isprintable() and 0 < len(field) <= SHOWN_CHARS_MAX else shown(field)


def wrong(code: str, field: str, value: object, allowed: str) -> SignalError:
    """Return the error for a value that is not allowed."""
    return SignalError(code, field, shown(value), allowed)


def too_large(field: str, given: int, allowed: str) -> SignalError:
    """Return the error for a value over its limit, with both figures."""
    return SignalError("LIMIT", field, str(given), f"at most {allowed}")


def unknown_field(kind: SignalType, name: str, near: str) -> SignalError:
    """Return the error for a name that is almost that of a field."""
    return SignalError("VALUE", shown_name(name), "a value", f"{near}, a field of {kind.value}")


def unknown_type(given: object) -> SignalError:
    """Return the error for an unknown signal type: the nearest one, and all there are."""
    basic = [word.value for word in SignalType if word not in EXTENSIONS]
    others = [word.value for word in SignalType if word in EXTENSIONS]
    allowed = f"{', '.join(basic)}; extensions: {', '.join(others)}"
    if not given:
        return SignalError("MISSING", "type", "nothing", allowed)
    if isinstance(given, str) and len(given) <= NAME_CHARS_MAX:
        word = re.sub(r"\(.*", "", given, flags=re.DOTALL).strip().upper().replace("-", "_")
        nearest = difflib.get_close_matches(word, basic + others, 1)
        if nearest:
            allowed = f"{nearest[0]} (perhaps), or one of {allowed}"
    return wrong("TYPE", "type", given, allowed)


def payload_error(kind: SignalType, raw: bytes, error: Exception) -> SignalError:
    """Turn a decoder's error into one that names the field, its value, and what is allowed."""
    if not isinstance(error, msgspec.ValidationError):
        named = _NOT_FINITE.search(STRINGS.sub(b'""', raw))
        if named is not None:
            return SignalError("JSON", "payload", named[0].decode(), "a number that JSON has")
        return wrong("JSON", "payload", raw, f"a JSON object ({error})")
    text = str(error)
    found = _PATH.search(text)
    path = found["path"] if found else ""
    missing = _MISSING.search(text)
    if missing:
        path = f"{path}.{missing['field']}".lstrip(".")
        allowed = f"{_allowed(kind, path)} ({kind.value} needs it)"
        return SignalError("MISSING", path, "nothing", allowed)
    if "out of range" in text and "[...]" in path:
        return wrong("VALUE", "payload", raw, "numbers that a 64-bit float can hold")
    # A struct's own check says what is allowed.
    is_own = isinstance(error.__cause__, ValueError)
    allowed = str(error.__cause__) if is_own else _allowed(kind, path)
    return wrong("VALUE", path or "payload", _given(raw, path), allowed)


def _given(raw: bytes, path: str) -> Any:
    """Return the value at the path that a decoder's error names; all if it cannot be read."""
    try:
        value: Any = msgspec.json.decode(raw)
        for part in _PARTS.findall(path):
            value = value[int(part)] if isinstance(value, list) else value[part]
    except (msgspec.MsgspecError, LookupError, ValueError, TypeError, RecursionError):
        return raw
    return value


def _allowed(kind: SignalType, path: str) -> str:
    """Return in words what a payload may hold at a path."""
    expected: inspect.Type = inspect.type_info(PAYLOADS[kind])
    for part in _PARTS.findall(path):
        choices = expected.types if isinstance(expected, inspect.UnionType) else (expected,)
        for choice in choices:
            if isinstance(choice, inspect.StructType):
                expected = next(f.type for f in choice.fields if f.encode_name == part)
            elif isinstance(choice, inspect.ListType):
                item = choice.item_type
                # Only JSON Schema needs the metadata.
                expected = item.type if isinstance(item, inspect.Metadata) else item
    return _words(expected)


def _words(expected: inspect.Type) -> str:
    match expected:
        case inspect.UnionType(types):
            # A float field takes whole numbers too; null and "not given" need no mention.
            has_float = any(isinstance(choice, inspect.FloatType) for choice in types)
            words = [
                _words(choice)
                for choice in types
                if not isinstance(choice, inspect.NoneType | inspect.CustomType)
                and not (has_float and isinstance(choice, inspect.IntType))
            ]
            return " or ".join(word for word in words if word)
        case inspect.IntType(ge=least, le=most):
            return "a whole number" + _range(least, most)
        case inspect.FloatType(ge=least, le=most):
            return "a number" + _range(least, most)
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            text = f"text of {least or 0} to {most} characters" if most else "text"
            return f"{text}, none of them a control character" if pattern else text
        case inspect.ListType(item_type=item, min_length=least, max_length=most):
            bounds = f"{least} to {most}" if least else f"at most {most}"
            each = _words(item)
            of_bounds = f" of {bounds} items" if most else ""
            return f"a list{of_bounds}" + (f": each {each}" if each else "")
        case inspect.BoolType():
            return "true or false"
        case inspect.StructType():
            return "a JSON object"
        case inspect.RawType():
            return "any JSON value"
    return ""


def _range(least: float | None, most: float | None) -> str:
    return "" if least is None or most is None else f", {least} to {most}"


#: A JSON string, closed or not. Matching an unclosed one too keeps the search linear: no text makes
#: it go back to the start.
STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def check_payload(raw: bytes) -> None:
    """Refuse a payload that is too large, nested too deeply, or not text. Raises SignalError."""
    if not raw.isascii():
        decode_text("payload", raw)
    elif len(raw) > PAYLOAD_BYTES_MAX:
        raise too_large("payload", len(raw), f"{PAYLOAD_BYTES_MAX} bytes")
    if raw.count(b"{") + raw.count(b"[") > PAYLOAD_DEPTH_MAX and _depth(raw) > PAYLOAD_DEPTH_MAX:
        raise too_large("payload", _depth(raw), f"{PAYLOAD_DEPTH_MAX} levels of nesting")


def check_results(payload: Mapping[str, Any], *, is_giving: bool) -> None:
    """Refuse results that stand where nobody reads them: they would be lost. Raises SignalError.

    `is_giving`: the signal's type gives results, in `partial` or in `result`.
    """
    if payload.get("findings") is not None:
        raise wrong("VALUE", "findings", payload["findings"], f"nothing: findings stand {_PLACES}")
    if payload.get("partial") is None:
        return
    if not is_giving:
        raise wrong("VALUE", "partial", payload["partial"], f"nothing: results stand {_PLACES}")
    if payload.get("result") is not None:
        only = "nothing beside `partial`: one signal gives one of the two"
        raise wrong("VALUE", "result", payload["result"], only)


def check_deltas(payload: Mapping[str, Any]) -> None:
    """Refuse deltas that are given what they cannot take: no synthesis could fold them.

    Raises SignalError.
    """
    for field in ("partial", "result"):
        members = payload.get(field)
        for name, value in members.items() if isinstance(members, Mapping) else ():
            if name != "findings":
                _check_delta(f"{field}.{name}", value)


def _check_delta(path: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        return
    try:
        if delta.operators(value):
            return
    except ValueError as error:
        raise wrong("VALUE", path, value, f"a change that can be made: {error}") from None
    for name, one in value.items():
        _check_delta(f"{path}.{name}", one)


def decode_text(field: str, value: bytes) -> str:
    """Decode a value of at most a payload's size as UTF-8 text. Raises SignalError."""
    if len(value) > PAYLOAD_BYTES_MAX:
        raise too_large(shown_name(field), len(value), f"{PAYLOAD_BYTES_MAX} bytes")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise wrong("VALUE", shown_name(field), value, "UTF-8 text") from None


_PLACES = "in `partial` of PARTIAL_RESULT or PROGRESS, or in `result` of COMPLETED"

#: Numbers that many languages write and JSON does not have.
_NOT_FINITE = re.compile(rb"(?<![\w.])-?(?:NaN|Infinity|nan|inf(?:inity)?)(?![\w.])")


def not_finite(value: Any, path: str = "") -> tuple[str, str] | None:
    """Return where in a value there is NaN or an infinity, and which; None if there is none."""
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        return path, "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        inner = ((f"{path}.{name}".lstrip("."), one) for name, one in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{path}[{index}]", one) for index, one in enumerate(value))
    return next((found for at, one in inner if (found := not_finite(one, at)) is not None), None)


def _depth(raw: bytes) -> int:
    deepest = level = 0
    for bracket in STRINGS.sub(b"", raw).translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            level += 1
            deepest = max(deepest, level)
        else:
            level -= 1
    return deepest
