"""The Lua scripts: one file a verb in `lua/`, which states KEYS and ARGV; errors they report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fabric.errors import (
    ExhaustedError,
    FabricError,
    FencedError,
    ServerError,
    TamperedError,
    UnseededError,
)
from fabric.store.connection import Caller, NoScriptError
from fabric.store.port import Lease

_DIRECTORY = Path(__file__).parent / "lua"


@cache
def source(verb: str) -> str:
    """Return the text of `lua/<verb>.lua`."""
    return (_DIRECTORY / f"{verb}.lua").read_text()


@cache
def digest(verb: str) -> str:
    """Return the SHA-1 that identifies the script on the server."""
    return hashlib.sha1(source(verb).encode(), usedforsecurity=False).hexdigest()


def verbs() -> list[str]:
    """Name every script."""
    return sorted(path.stem for path in _DIRECTORY.glob("*.lua"))


async def run(channel: Caller, verb: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    """Run a script by its digest, or by its text if the server does not know it yet."""
    try:
        return await channel.call("EVALSHA", digest(verb), len(keys), *keys, *arguments)
    except NoScriptError:
        return await channel.call("EVAL", source(verb), len(keys), *keys, *arguments)


def refusal(verb: str, lease: Lease, reply: list[Any]) -> FabricError:
    """Return the error for a script that refuses to act under a lease."""
    where = f"{verb} on partition {lease.partition} under epoch {lease.epoch} refused"
    match reply:
        case [b"unseeded"]:
            return UnseededError(f"{where}: the partition's epoch is gone from the server")
        case [(b"fenced" | b"expired") as how, owner, epoch]:
            holder = owner.decode() or "nobody"
            return FencedError(f"{where}: {how.decode()}; {holder} holds epoch {int(epoch)}")
        case [b"superseded", version]:
            return FencedError(f"{where}: another commit came first (version {int(version)})")
        case [b"tampered", *what]:
            return tampered(*what)
        case [b"exhausted", key]:
            return ExhaustedError(key.decode("utf-8", "replace"))
    return unexpected(verb, reply)


def tampered(key: bytes, found: bytes, expected: bytes) -> TamperedError:
    """Return the error for a key of which a script reports another type."""
    return TamperedError(key.decode("utf-8", "replace"), found.decode(), expected.decode())


def unexpected(verb: str, reply: Any) -> ServerError:
    """Return the error for a reply that no script of this version gives."""
    return ServerError(f"script {verb} gave a reply that this version does not know: {reply[:1]!r}")
