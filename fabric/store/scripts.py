"""The Lua scripts: one file a verb in `lua/`, which states KEYS and ARGV, and one call each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fabric.errors import (
    FencedError,
    NotAllowedError,
    OverloadedError,
    ServerError,
    TamperedError,
    UnseededError,
)
from fabric.store.connection import Caller, NoScriptError
from fabric.store.port import Batch, Held, Lease
from fabric.store.value import check_entries, read_outages

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


async def acquire(
    channel: Caller,
    keys: tuple[str, str],
    *,
    partition: int,
    group: str,
    owner: str,
    nonce: str,
    ttl_ms: int,
    seed: bool,
) -> Lease | Held | None:
    """Take a lease; None when the partition has no epoch and may not get one."""
    reply = await run(channel, "acquire", keys, (owner, nonce, ttl_ms, "1" if seed else "0", group))
    match reply[0]:
        case b"acquired":
            _, epoch, version, committed, expires, now, outages = reply
            return Lease(
                partition, group, owner, nonce,
                int(epoch), int(version), committed, int(expires), int(now), read_outages(outages),
            )  # fmt: skip
        case b"held":
            return Held(reply[1].decode(), int(reply[2]), int(reply[3]))
        case b"unseeded":
            return None
    raise _unexpected("acquire", reply)


async def renew(channel: Caller, key: str, lease: Lease, ttl_ms: int) -> int:
    """Hold a lease for longer, or give it up with 0; return the server's time."""
    reply = await run(channel, "renew", (key,), (lease.nonce, lease.epoch, ttl_ms))
    if reply[0] == b"renewed":
        return int(reply[1])
    raise _refusal("renew", lease, reply)


async def commit(
    channel: Caller,
    keys: tuple[str, str],
    lease: Lease,
    version: int,
    batch: Batch,
    *,
    upto: bytes,
    floor: bytes,
    drained: bool,
    ttl_ms: int,
) -> int:
    """Apply a batch; return the server's time."""
    forms: list[Any] = []
    for form in batch.forms:
        forms += (len(form), *form)
    reply = await run(
        channel,
        "commit",
        (*keys, *batch.keys),
        (
            lease.nonce, lease.epoch, version, ttl_ms, lease.group, upto, floor,
            "=" if drained else "~", " ".join(batch.types),
            len(batch.forms), *forms, *batch.operations,
        ),
    )  # fmt: skip
    if reply[0] == b"committed":
        return int(reply[1])
    raise _refusal("commit", lease, reply)


async def beat(channel: Caller, key: str, replica: str, ttl_ms: int) -> list[str]:
    """Report that a replica lives; return the live ones."""
    return sorted(name.decode() for name in await run(channel, "beat", (key,), (replica, ttl_ms)))


async def emit(
    channel: Caller, key: str, entries: Sequence[Sequence[bytes]], ingress_max: int
) -> list[bytes]:
    """Append signals, or results; return their ids."""
    check_entries(entries)
    arguments: list[Any] = [ingress_max]
    for entry in entries:
        arguments.append(len(entry))
        arguments += entry
    reply = await run(channel, "emit", (key,), arguments)
    if reply[0] == b"emitted":
        return list(reply[1:])
    if reply[0] == b"overloaded":
        raise OverloadedError(
            f"stream {key} holds {reply[1]} signals that no worker has handled yet, "
            f"{ingress_max} are allowed: is one running? (fabric status)"
        )
    raise _unexpected("emit", reply)


async def enroll(channel: Caller, keys: tuple[str, str], agent: str) -> int:
    """Hand out an agent's next incarnation."""
    return int(await run(channel, "enroll", keys, (agent,)))


async def reseed(
    channel: Caller, keys: tuple[str, str], group: str, remembered: int
) -> tuple[int, bytes]:
    """Give a lease that lost its epoch a new one; return it, and the committed id."""
    reply = await run(channel, "reseed", keys, (group, remembered))
    match reply:
        case [b"reseeded", epoch, committed]:
            return int(epoch), bytes(committed)
        case [b"seeded", epoch]:
            raise NotAllowedError(
                f"{keys[0]} still has its epoch ({int(epoch)}), which is never replaced"
            )
        case [b"tampered", *what]:
            raise _tampered(*what)
    raise _unexpected("reseed", reply)


async def attempt(channel: Caller, key: str, ttl_ms: int) -> None:
    """Do on a scratch key what all scripts do; raises the server's error when it fails."""
    reply = await run(channel, "attempt", (key,), ('{"n": 7}', ttl_ms))
    if reply[:2] != [b"attempted", b"7"]:
        raise _unexpected("attempt", reply)


def _refusal(verb: str, lease: Lease, reply: list[Any]) -> Exception:
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
            return _tampered(*what)
    return _unexpected(verb, reply)


def _tampered(key: bytes, found: bytes, expected: bytes) -> TamperedError:
    return TamperedError(key.decode("utf-8", "replace"), found.decode(), expected.decode())


def _unexpected(verb: str, reply: Any) -> ServerError:
    return ServerError(f"script {verb} gave a reply that this version does not know: {reply[:1]!r}")
