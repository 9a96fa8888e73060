"""The Lua scripts: one file a verb in `lua/`, which states KEYS and ARGV; errors they report."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from fabric.errors import (
    ExhaustedError,
    FabricError,
    FencedError,
    MissingInputError,
    ServerError,
    TamperedError,
    UnseededError,
)
from fabric.store.connection import Caller, DeniedError, NoScriptError
from fabric.store.port import Lease

_DIRECTORY = Path(__file__).parent / "lua"

#: How a script runs a command, which, and its first argument if that is a word.
_CALL: Final = re.compile(r"redis\.(p?call)\('(\w+)'(?:, '(\w+)')?")

#: Commands whose first argument belongs to their name.
_CONTAINERS: Final = frozenset({"XGROUP", "XINFO"})


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


def command(name: str, argument: str = "") -> str:
    """Return a command as the rules for users name it: "zrem", "xgroup|setid"."""
    return (f"{name}|{argument}" if name in _CONTAINERS else name).lower()


@cache
def commands(verb: str) -> frozenset[str]:
    """Return all commands that a script runs, as `command` names them."""
    return frozenset(command(*call) for _, *call in _CALL.findall(source(verb)))


def with_callers(name: str) -> str:
    """Return a command for people, with the scripts that run it: "ZREM (script commit)"."""
    callers = ", ".join(verb for verb in verbs() if name in commands(verb))
    return name.upper().replace("|", " ") + (f" (script {callers})" if callers else "")


async def run(channel: Caller, verb: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    """Run a script by its digest, or by its text if the server does not know it yet.

    Raises DeniedError, naming the command or the key, when the user lacks a permission.
    """
    try:
        try:
            return await channel.call("EVALSHA", digest(verb), len(keys), *keys, *arguments)
        except NoScriptError:
            return await channel.call("EVAL", source(verb), len(keys), *keys, *arguments)
    except DeniedError as error:
        if error.is_key:
            await _deny_key(channel, keys)
        if error.line is not None and (denied := _at(verb, error.line)):
            raise DeniedError(with_callers(denied), f"+{denied}") from None
        raise


def _at(verb: str, line: int) -> str:
    """Return the command in a line of a script; with line 0, the one whose error it returns."""
    calls = _CALL.findall(source(verb).splitlines()[line - 1] if line else source(verb))
    found = {command(*call) for how, *call in calls if line or how == "pcall"}
    return found.pop() if len(found) == 1 else ""


async def _deny_key(channel: Caller, keys: Sequence[str]) -> None:
    """Raise DeniedError for the first key that the user may not use at all, if there is one."""
    for key in keys:
        try:
            await channel.call("TYPE", key)
        except DeniedError as error:
            if error.is_key:
                raise DeniedError(f"the key {key}", f"~{key}") from None


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
        case [b"missing", key]:
            return MissingInputError(key.decode("utf-8", "replace"))
    return unexpected(verb, reply)


def tampered(key: bytes, found: bytes, expected: bytes) -> TamperedError:
    """Return the error for a key of which a script reports another type."""
    return TamperedError(key.decode("utf-8", "replace"), found.decode(), expected.decode())


def unexpected(verb: str, reply: Any) -> ServerError:
    """Return the error for a reply that no script of this version gives."""
    return ServerError(f"script {verb} gave a reply that this version does not know: {reply[:1]!r}")
