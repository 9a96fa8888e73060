"""From flags, environment and files to a connection: what every command that asks a server does.

Imports neither pydantic nor the driver until one is needed, so that a signal is sent in the time
that checking a configuration file would take.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from click.exceptions import Exit

from fabric.config import defaults
from fabric.errors import ConfigError

if TYPE_CHECKING:
    from fabric.client.emitter import Emitter
    from fabric.client.session import Session
    from fabric.store.keys import Partition, SessionKeys
    from fabric.store.redis import RedisStore

T = TypeVar("T")

#: Exit code after SIGTERM, as shells have it: 128 + 15.
TERMINATED = 143

#: Settings of a Target that no flag sets: with one of them in the environment, all is looked up.
_LIMITS = frozenset(
    defaults.ENV_PREFIX + name
    for name in ("PARTITIONS", "INGRESS_MAX", "EMIT_LIMIT_MS", "HEARTBEAT_MS", "WAIT_REPLICAS")
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A URL that may hold a password, and is never shown."""

    value: str = field(repr=False)

    def get_secret_value(self) -> str:
        """Return the URL as it is."""
        return self.value


@dataclass(frozen=True, slots=True)
class Target:
    """Where the fabric is and who speaks: flags, environment and files taken together."""

    redis_url: Secret | None = None
    namespace: str = defaults.NAMESPACE
    session: str | None = None
    agent: str | None = None
    stream: str | None = None
    partitions: int | None = None
    ingress_max: int = defaults.INGRESS_MAX
    emit_limit_ms: int = defaults.EMIT_LIMIT_MS
    heartbeat_ms: int = defaults.HEARTBEAT_MS
    wait_replicas: int = defaults.WAIT_REPLICAS

    def need(self, what: str, given: str | None = None) -> str:
        """Return the session, agent or stream to work with. Raises ConfigError without one."""
        value = given or getattr(self, what)
        if not value:
            raise ConfigError(f"no {what}: name one (--{what}), or set FABRIC_{what.upper()}")
        return _printable(what, str(value))


def target_of(redis_url: str | None, **flags: str | None) -> Target:
    """Return the target that flags name; what they leave out comes from files, if there are any.

    The environment's own share is in the flags already (click's `envvar`). Raises ConfigError.
    """
    if _LIMITS.isdisjoint(map(str.upper, os.environ)) and not defaults.config_files():
        given = {name: value for name, value in flags.items() if value is not None}
        fault = defaults.namespace_fault(given.get("namespace", defaults.NAMESPACE))
        if fault is not None:
            raise ConfigError(f"setting namespace: {fault} (flag --namespace, FABRIC_NAMESPACE)")
        return Target(Secret(redis_url) if redis_url else None, **given)  # type: ignore[arg-type] # mypy takes the flags for limits, which have none

    from fabric.config.settings import load

    found = load(redis_url=redis_url, **flags)
    url = found.redis_url and Secret(found.redis_url.get_secret_value())
    return Target(
        url or None,
        found.namespace,
        found.session,
        found.agent,
        found.stream,
        found.partitions,
        found.ingress_max,
        found.emit_limit_ms,
        found.heartbeat_ms,
        found.wait_replicas,
    )


def url_of(target: Target) -> str:
    """Return the server's URL. Raises ConfigError when none is named and our own is not running."""
    if target.redis_url is not None:
        return target.redis_url.get_secret_value()

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
    """An open way to the server."""

    target: Target
    store: RedisStore
    partitions: int

    def keys(self, session: str) -> tuple[Partition, SessionKeys]:
        """Return the keys of a session's partition, and its own."""
        from fabric.store.keys import partition_of

        name = _printable("session", session)
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


def _printable(what: str, name: str) -> str:
    """Return a name as it is. Bytes that are no text, which a shell can pass on, are not."""
    if not name.isprintable():
        raise ConfigError(f"{what}: {name!a} is no name: printable characters in UTF-8")
    return name


@asynccontextmanager
async def connected(target: Target, *, founding: bool = False) -> AsyncIterator[Connection]:
    """Connect for as long as the block runs.

    `founding`: the number of partitions is fixed if the namespace is new; who only looks around
    fixes nothing.
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
    """Run a command's work. SIGTERM ends it as Ctrl-C does: what was begun is withdrawn."""

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        raise Exit(TERMINATED) from None
