"""The commands that the fabric sends, and which of them the server refuses to its user.

The server checks each command of a script when the script comes to it, and takes nothing back. So a
worker tries all its commands before it uses a lease, and `fabric doctor` those of all parts.

No form below has an effect, whatever the key holds: it reads, finds nothing, or is refused for its
arguments. The server looks at permissions before arguments (tried on Redis 6.2, 7.0 and Valkey 8).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from fabric.errors import FabricError, ServerError, TamperedError, UnreachableError
from fabric.store import scripts
from fabric.store.connection import DeniedError, NoScriptError

#: What workers send, from scripts and directly.
WORKERS: Final = (
    *("EVAL return 0", "EVALSHA of-none 0"),
    *("TIME", "TYPE <key>", "EXISTS <key>", "PEXPIRE <key> x", "RENAME <key> <key>"),
    # A key that is not there, in the same slot of a cluster.
    "UNLINK <key>:none:{<key>}",
    *("HGET <key> f", "HMGET <key> f", "HGETALL <key>", "HEXISTS <key> f"),
    *("HSET <key> f v odd", "HDEL <key> f", "ZADD <key> NX XX 1 m", "ZREM <key> m"),
    *("ZRANGE <key> 0 0", "ZRANGEBYSCORE <key> 0 0 LIMIT 0 1", "ZREMRANGEBYSCORE <key> x x"),
    *("XADD <key> 0-0 f v", "XREAD COUNT 1 STREAMS <key> $", "XRANGE <key> 1 1"),
    *("XREVRANGE <key> 1 1", "XDEL <key> 0-0", "XTRIM <key> MAXLEN -1", "XINFO STREAM <key>"),
    *("XGROUP CREATE <key> g x", "XGROUP SETID <key> g x", "XPENDING <key> g odd"),
    "XACK <key> g x",
)

#: What workers need to delete a session, and can work without.
PURGING: Final = ("SCAN 0 COUNT 1", "ZSCAN <key> 0")

#: What synthesizers send as well.
SYNTHESIZERS: Final = ("ZRANGEBYLEX <key> - + LIMIT 0 1",)

#: What agents and the command line send as well.
AGENTS: Final = ("HSCAN <key> 0", "XLEN <key>", "ZREVRANGE <key> 0 0")

#: Without one of these, a part of the fabric does not work.
NEEDED: Final = (*WORKERS, *PURGING, *SYNTHESIZERS, *AGENTS)

#: What only `fabric doctor` sends; and WAIT, for those who set `wait_replicas`.
OTHERS: Final = (
    *("ZCOUNT <key> 0 0", "XINFO GROUPS <key>"),
    "WAIT 0 1",
)


#: Errors that say nothing about permissions.
_FOR_ARGUMENTS: Final = (ServerError, TamperedError, NoScriptError)


async def refused(
    call: Callable[..., Awaitable[Any]], key: str, forms: Sequence[str]
) -> dict[str, FabricError]:
    """Try commands on a key; return those that the server does not run, with its reasons.

    Raises UnreachableError.
    """
    found: dict[str, FabricError] = {}
    for form in forms:
        words = [word.replace("<key>", key) for word in form.split()]
        try:
            await call(*words)
        except UnreachableError:
            raise
        except FabricError as error:
            is_other_key = isinstance(error, DeniedError) and error.is_key and key not in words
            if type(error) not in _FOR_ARGUMENTS and not is_other_key:
                found[scripts.command(*words[:2])] = error
    return found


async def require(call: Callable[..., Awaitable[Any]], key: str, forms: Sequence[str]) -> None:
    """Check that the user may run commands. Raises DeniedError, naming all that it may not."""
    missing = await refused(call, key, forms)
    if not missing:
        return
    for error in missing.values():
        if not isinstance(error, DeniedError):
            raise error
        if error.is_key:
            raise DeniedError(f"the key {key}", f"~{key}")
    what = ", ".join(scripts.with_callers(command) for command in missing)
    raise DeniedError(what, " ".join(f"+{command}" for command in missing))
