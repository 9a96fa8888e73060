"""The way in: a connection to the fabric, from which agents and sessions are had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from fabric.client.agent import Agent
from fabric.client.emitter import Emitter, WhenFull
from fabric.client.session import Session
from fabric.client.submit import prepare, submit
from fabric.config import settings as configuration
from fabric.config.settings import Settings
from fabric.devserver import require_server_url
from fabric.errors import ConfigError, NotAllowedError
from fabric.store.keys import SessionKeys, partition_of
from fabric.store.port import ClientStore
from fabric.store.redis import RedisStore
from fabric.wire.entry import name as check_name
from fabric.wire.entry import session_name


class Fabric:
    """A connection to the fabric, shared by any number of agents: `async with Fabric.connect()`."""

    def __init__(self, store: ClientStore, settings: Settings) -> None:
        self.settings = settings
        self._store = store
        self._partitions = 0

    @classmethod
    def connect(cls, redis_url: str | None = None, **flags: Any) -> Fabric:
        """Prepare a connection, by settings from flags, environment and files, in that order.

        Nothing is dialled yet. Raises ConfigError when no server is named and the project's own is
        not running.
        """
        settings = configuration.load(redis_url=redis_url, **flags)
        url = require_server_url(settings)
        store = RedisStore(
            url, settings.namespace, name="fabric-client", wait_replicas=settings.wait_replicas
        )
        return cls(store, settings)

    async def __aenter__(self) -> Fabric:
        """Connect."""
        self._partitions = await self._store.partitions(self.settings.partitions)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self._store.close()

    @property
    def store(self) -> ClientStore:
        """The store behind this connection."""
        return self._store

    @property
    def partitions(self) -> int:
        """How many shards the namespace has."""
        if not self._partitions:
            raise NotAllowedError("not connected: use `async with Fabric.connect() as fabric`")
        return self._partitions

    def keys(self, session: str) -> tuple[int, SessionKeys]:
        """Return a session's partition and key names. Raises SignalError when it is no name."""
        session_name(_bytes(session))
        partition = partition_of(session, self.partitions)
        return partition, self._store.namespace.partition(partition).session(session)

    def session(self, name: str | None = None) -> Session:
        """Return a session to look at; by default the one in the settings."""
        return Session(self._store, self.keys(self._default(name, "session"))[1])

    def agent(
        self,
        name: str | None = None,
        *,
        session: str | None = None,
        stream: str | None = None,
        priority: int = 0,
        task: str | None = None,
        task_type: str | None = None,
        parallel_group: str | None = None,
        reads: Sequence[str] = (),
        writes: Sequence[str] = (),
        produces: Sequence[str] = (),
        when_full: WhenFull | str = WhenFull.WAIT,
    ) -> Agent:
        """Return an agent, to be entered with `async with`. What it declares goes into STARTED."""
        name = self._default(name, "agent")
        partition, keys = self.keys(self._default(session, "session"))
        stream = stream or self.settings.stream or ""
        check_name(b"emitter", _bytes(name))
        if stream:
            check_name(b"stream", _bytes(stream))
        declared = {
            "task": task,
            "task_type": task_type,
            "priority": priority,
            "parallel_group": parallel_group,
            "reads": list(reads),
            "writes": list(writes),
            "produces": list(produces),
        }
        return Agent(
            self._store,
            keys,
            self._emitter(partition, WhenFull(when_full)),
            self.settings,
            partition=partition,
            name=name,
            stream=stream,
            declared={field: value for field, value in declared.items() if value},
        )

    async def emit(
        self, documents: Iterable[Mapping[str, Any]], *, when_full: WhenFull | str = WhenFull.WAIT
    ) -> list[str]:
        """Send signals given as documents, in any spelling; return their ingress ids, in order.

        They carry no numbers unless the documents do, so none is sent twice: after a lost reply
        UnreachableError is raised. Session, emitter and stream default to the settings'. Raises
        SignalError, before anything is sent, when one of them is not acceptable.
        """
        defaults = {
            "session": self.settings.session,
            "emitter": self.settings.agent,
            "stream": self.settings.stream,
        }
        return await submit(
            self._store,
            self.partitions,
            [prepare(document, defaults) for document in documents],
            ingress_max=self.settings.ingress_max,
            limit_ms=self.settings.emit_limit_ms,
            when_full=WhenFull(when_full),
        )

    def _emitter(self, partition: int, when_full: WhenFull) -> Emitter:
        return Emitter(
            self._store,
            partition,
            ingress_max=self.settings.ingress_max,
            when_full=when_full,
            limit_ms=self.settings.emit_limit_ms,
        )

    def _default(self, given: str | None, setting: str) -> str:
        value = given or getattr(self.settings, setting)
        if not value:
            raise ConfigError(f"no {setting}: name one, or set FABRIC_{setting.upper()}")
        return str(value)


def _bytes(name: str) -> bytes:
    """Encode a name as it is: what is no text is refused by name, not by the codec."""
    return name.encode("utf-8", "surrogatepass")
