"""From settings to a connection, for every command that talks to a server.

Does not import the driver until it is needed: `--help` and errors come sooner.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from click.exceptions import Exit

from fabric.config.settings import Settings, printable

if TYPE_CHECKING:
    from fabric.client.emitter import Emitter
    from fabric.client.session import Session
    from fabric.store.keys import Partition, SessionKeys
    from fabric.store.redis import RedisStore

T = TypeVar("T")

#: Exit code after SIGTERM, as shells have it: 128 + 15.
TERMINATED = 143

#: Settings of a command: the server, and the session, agent and stream it is for.
Target = Settings


def url_of(target: Target) -> str:
    """Return the server's URL. Raises ConfigError if none is named and no private server runs."""
    if target.redis_url is not None:
        return target.redis_url.value

    from fabric.devserver import require_server_url

    return require_server_url(target)


def open_store(target: Target, name: str = "fabric-cli") -> RedisStore:
    """Return the store at a target; nothing is dialled yet. Raises ConfigError."""
    from fabric.store.redis import RedisStore

    return RedisStore(
        url_of(target), target.namespace, name=name, wait_replicas=target.wait_replicas
    )


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection to the server."""

    target: Target
    store: RedisStore
    partitions: int

    def keys(self, session: str) -> tuple[Partition, SessionKeys]:
        """Return the keys of a session's partition, and its own."""
        from fabric.store.keys import partition_of

        name = printable("session", session)
        partition = self.store.namespace.partition(partition_of(name, self.partitions))
        return partition, partition.session(name)

    def session(self, name: str) -> Session:
        """Return a session to read from."""
        from fabric.client.session import Session

        return Session(self.store, self.keys(name)[1])

    def emitter(self, partition: int) -> Emitter:
        """Return what sends signals to a partition."""
        from fabric.client.emitter import Emitter

        target = self.target
        return Emitter(
            self.store, partition, ingress_max=target.ingress_max, limit_ms=target.emit_limit_ms
        )


@asynccontextmanager
async def connected(target: Target, *, founding: bool = False) -> AsyncIterator[Connection]:
    """Connect for as long as the block runs.

    `founding`: fix the number of partitions if the namespace is new. Commands that only read leave
    a new namespace untouched.
    """
    store = open_store(target)
    try:
        known = await store.fields(store.namespace.meta, ["partitions"])
        if founding or known != [None]:
            partitions = await store.partitions(target.partitions)
        else:
            partitions = target.partitions or await store.partitions_default()
        yield Connection(target, store, partitions)
    finally:
        await store.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work. SIGTERM ends it as Ctrl-C does: a wait is withdrawn first."""

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        raise Exit(TERMINATED) from None
