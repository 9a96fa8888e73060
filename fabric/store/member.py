"""Members of a sorted set as names, in the order of their bytes."""

from __future__ import annotations

from collections.abc import Iterable

from fabric.errors import TamperedError


def decoded(key: str, members: Iterable[bytes]) -> list[str]:
    """Return members as text. Raises TamperedError when one is none: the fabric writes names."""
    try:
        return [member.decode() for member in members]
    except UnicodeDecodeError:
        raise TamperedError(key, "zset with a member that is no text", "zset of names") from None


def bounds(prefix: bytes, after: bytes) -> tuple[bytes, bytes]:
    """Return the range, for ZRANGEBYLEX, of what begins with a prefix and comes after a name."""
    first = b"(" + after if after and after >= prefix else b"[" + prefix if prefix else b"-"
    # No text has this byte.
    return first, b"(" + prefix + b"\xff" if prefix else b"+"
