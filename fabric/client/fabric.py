"""The way in: a connection to the fabric, which gives agents and sessions."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from fabric.backoff import reach
from fabric.client.agent import Agent
from fabric.client.emitter import NO_WORKSPACE, Emitter, WhenFull, prepare, submit
from fabric.client.occupancy import check, occupy
from fabric.client.session import Session
from fabric.client.start import Start
from fabric.config import settings as configuration
from fabric.config.settings import Settings
from fabric.core.signal import SignalType
from fabric.devserver import require_server_url
from fabric.devserver.path import workspace
from fabric.errors import ConfigError, NotAllowedError
from fabric.store.keys import SessionKeys, partition_of
from fabric.store.port import ClientStore
from fabric.store.redis import RedisStore
from fabric.wire.entry import name as check_name
from fabric.wire.entry import refuse_reserved, session_name

if TYPE_CHECKING:
    from fabric.client.export import Exported
    from fabric.client.run import Runs

logger = logging.getLogger("fabric.agent")


class Connector:
    """What begins with `connect`: the asynchronous and the synchronous face of the fabric."""

    #: The asynchronous face.
    _original: Fabric

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._original._settings

    @property
    def partitions(self) -> int:
        """How many partitions the namespace has. Raises NotAllowedError before it is connected."""
        if not self._original._partitions:
            raise NotAllowedError("not connected: use `async with Fabric.connect() as fabric`")
        return self._original._partitions

    @classmethod
    def _over(cls, store: ClientStore, settings: Settings) -> Self:
        """Return a connection over a store."""
        raise NotImplementedError

    @classmethod
    def connect(
        cls,
        redis_url: str | None = None,
        *,
        namespace: str | None = None,
        session: str | None = None,
        agent: str | None = None,
        stream: str | None = None,
        workspace: str | None = None,
        instance: str | None = None,
        partitions: int | None = None,
        block_ms: int | None = None,
        ingress_max: int | None = None,
        emit_limit_ms: int | None = None,
        confirm_ms: int | None = None,
        wait_replicas: int | None = None,
        heartbeat_ms: int | None = None,
    ) -> Self:
        """Prepare a connection; it is made when the block is entered.

        What is not given comes from the environment, then from the project's and the user's file:
        see Settings for units and bounds. Raises ConfigError if no server is named and the
        project's own is not running.
        """
        settings = configuration.load(
            redis_url=redis_url,
            namespace=namespace,
            session=session,
            agent=agent,
            stream=stream,
            workspace=workspace,
            instance=instance,
            partitions=partitions,
            block_ms=block_ms,
            ingress_max=ingress_max,
            emit_limit_ms=emit_limit_ms,
            confirm_ms=confirm_ms,
            wait_replicas=wait_replicas,
            heartbeat_ms=heartbeat_ms,
        )
        store = RedisStore(
            require_server_url(settings),
            settings.namespace,
            name="fabric-client",
            wait_replicas=settings.wait_replicas,
        )
        return cls._over(store, settings)


class Fabric(Connector):
    """A connection to the fabric, shared by any number of agents: `async with Fabric.connect()`."""

    def __init__(self, store: ClientStore, settings: Settings) -> None:
        self._original = self
        self._settings = settings
        self._store = store
        self._partitions = 0

    @classmethod
    def _over(cls, store: ClientStore, settings: Settings) -> Self:
        return cls(store, settings)

    def __repr__(self) -> str:
        noun = "partition" if self._partitions == 1 else "partitions"
        state = f"{self._partitions} {noun}" if self._partitions else "not connected"
        return f"<Fabric {self._settings.namespace!r}: {state}>"

    async def __aenter__(self) -> Self:
        """Connect; while the server cannot be reached, try again for `emit_limit_ms`."""
        chosen = self._settings
        self._partitions = await reach(
            lambda: self._store.partitions(chosen.partitions), chosen.emit_limit_ms, logger.warning
        )
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Close all connections."""
        await self._store.close()

    @property
    def store(self) -> ClientStore:
        """The store behind this connection."""
        return self._store

    def keys(self, session: str) -> tuple[int, SessionKeys]:
        """Return a session's partition and key names. Raises SignalError for a bad name."""
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
        quotas: Sequence[str] = (),
        workspace: str | None = None,
        instance: str | None = None,
        take_over: bool = False,
        resumes_from: str | None = None,
        when_full: WhenFull | str = WhenFull.WAIT,
    ) -> Agent:
        """Return an agent, to be entered with `async with`. STARTED carries what is declared here.

        Name, session and stream default to those in the settings. `workspace` is the copy of the
        files that it works in, HOST:TOP; by default the worktree around the working directory, and
        "none" for none. `instance` identifies this living process, by default by its host and pid.
        A second one under the name of an agent at work is refused; with `take_over` it replaces the
        first. Nobody need say so after a crash on the same host. `resumes_from` names the
        checkpoint of the incarnation before that it goes on from: what was found by then stands.
        """
        name = self._default(name, "agent")
        partition, keys = self.keys(self._default(session, "session"))
        stream = stream or self._settings.stream or ""
        check_name(b"emitter", _bytes(name))
        refuse_reserved(name)
        if stream:
            check_name(b"stream", _bytes(stream))
        works_in = _workspace(workspace or self._settings.workspace)
        declared = {
            "task": task,
            "task_type": task_type,
            "priority": priority,
            "parallel_group": parallel_group,
            "reads": list(reads),
            "writes": list(writes),
            "produces": list(produces),
            "quotas": list(quotas),
            "workspace": works_in,
            "resumes_from": resumes_from,
        }
        emitter = Emitter(
            self._store,
            partition,
            ingress_max=self._settings.ingress_max,
            when_full=WhenFull(when_full),
            limit_ms=self._settings.emit_limit_ms,
            occupy=_occupying(self._store, self._keys_of, keys.name, works_in),
        )
        return Agent(
            keys,
            emitter,
            self._settings,
            name=name,
            stream=stream,
            declared={field: value for field, value in declared.items() if value},
            start=Start(instance or self._instance(), take_over=take_over),
        )

    async def emit(
        self, documents: Iterable[Mapping[str, Any]], *, when_full: WhenFull | str = WhenFull.WAIT
    ) -> list[str]:
        """Send signals given as documents, in any spelling; return their ingress ids, in order.

        They carry sequence numbers only if the documents do. Without numbers a signal is never sent
        twice: after a lost reply, UnreachableError is raised. Session, emitter and stream default
        to those in the settings. Raises SignalError, before anything is sent, if one of the signals
        is not acceptable.
        """
        defaults = {
            "session": self._settings.session,
            "emitter": self._settings.agent,
            "stream": self._settings.stream,
        }
        workspace = self._settings.workspace
        entries = [prepare(document, defaults, workspace) for document in documents]
        await check(self._store, self._keys_of, entries)
        return await submit(
            self._store,
            self.partitions,
            entries,
            ingress_max=self._settings.ingress_max,
            limit_ms=self._settings.emit_limit_ms,
            when_full=WhenFull(when_full),
        )

    def _keys_of(self, session: str) -> SessionKeys:
        return self.keys(session)[1]

    def _instance(self) -> str | None:
        """Return the id of the process that agents are in; None to make one up for each."""
        return self._settings.instance

    async def expect(
        self,
        *agents: str,
        session: str | None = None,
        deadline_ms: int | None = None,
        by: str = "COORDINATOR",
    ) -> None:
        """Say which agents belong to the run: it is not over before they have come and ended.

        After `deadline_ms` those that have not come are named, and nobody waits any longer. Call it
        before the agents start, and again to add others. `by` says so, and is no agent for that.
        """
        payload = {"agents": list(agents), "deadline_ms": deadline_ms}
        document = {"type": SignalType.AGENTS_EXPECTED.value, "emitter": by, "payload": payload}
        await self.emit([{**document, "session": self._default(session, "session")}])

    async def close_run(
        self, session: str | None = None, *, reason: str | None = None, by: str = "COORDINATOR"
    ) -> list[str]:
        """End the run of a session; return the agents that were still at work, and were told.

        What comes later is refused. Raises NotFoundError if there is no such session,
        NotAllowedError if the run is closed already, WaitTimeoutError if no orchestrator has
        decided it in `confirm_ms`.
        """
        _, told = await self._runs(session, by).close(reason)
        return told

    async def open_run(
        self,
        session: str | None = None,
        *,
        expect: Sequence[str] = (),
        deadline_ms: int | None = None,
        by: str = "COORDINATOR",
    ) -> int:
        """Begin the next run of a session that was closed, or the first one; return its number.

        Nothing of the last run is in force. `expect` names the agents that belong to the run, as
        `expect()` does; in a run that is open they are added. Without any, NotAllowedError is
        raised then.
        """
        return await self._runs(session, by).open(expect, deadline_ms)

    async def purge(self, session: str | None = None, *, by: str = "COORDINATOR") -> None:
        """Delete everything of a session, through the workers; return when it is gone.

        Raises NotFoundError if there is no such session, NotAllowedError while its run is open,
        WaitTimeoutError if it takes too long: the workers go on then.
        """
        await self._runs(session, by).purge()

    async def export(self, to: str | Path | IO[bytes], session: str | None = None) -> Exported:
        """Write everything of a session to a file of JSON lines, as `fabric export` does.

        If its name ends in `.gz`, it is compressed. Raises NotFoundError if there is no such
        session.
        """
        from fabric.client.export import export_session  # most programs never do it

        partition, keys = self.keys(self._default(session, "session"))
        where = Path(to) if isinstance(to, str) else to
        names = self._store.namespace.partition(partition)
        return await export_session(self._store, names, keys, where)

    def _runs(self, session: str | None, by: str) -> Runs:
        from fabric.client.run import Runs  # most programs never close a run

        number, keys = self.keys(self._default(session, "session"))
        limit_ms = self._settings.emit_limit_ms
        emitter = Emitter(
            self._store, number, ingress_max=self._settings.ingress_max, limit_ms=limit_ms
        )
        shown, names = Session(self._store, keys), self._store.namespace.partition(number)
        limit_s = (self._settings.confirm_ms or limit_ms) / 1000
        return Runs(shown, self._store, names, emitter, by=by, timeout_s=limit_s)

    async def same(
        self,
        *keys: str,
        distinct: bool = False,
        session: str | None = None,
        by: str = "COORDINATOR",
    ) -> None:
        """Say that the first of these keys of findings is the same thing as each other one.

        With `distinct`, that it is none of them. It goes before what agents and rules say. `by`
        says so, and is no agent for that.
        """
        payload = {"keys": list(keys), "distinct": distinct}
        document = {"type": SignalType.SAME_AS.value, "emitter": by, "payload": payload}
        await self.emit([{**document, "session": self._default(session, "session")}])

    async def renamed(
        self, old: str, new: str, *, session: str | None = None, by: str = "COORDINATOR"
    ) -> None:
        """Say that a file or folder has another name: findings about it move with it."""
        payload = {"from": old, "to": new}
        document = {"type": SignalType.RENAMED.value, "emitter": by, "payload": payload}
        await self.emit([{**document, "session": self._default(session, "session")}])

    def _default(self, given: str | None, setting: str) -> str:
        value = given or getattr(self._settings, setting)
        if not value:
            raise ConfigError(f"no {setting}: name one, or set FABRIC_{setting.upper()}")
        return str(value)


def _occupying(
    store: ClientStore, keys_of: Callable[[str], SessionKeys], session: str, works_in: str | None
) -> Callable[[Iterable[str]], Awaitable[None]] | None:
    return partial(occupy, store, keys_of, session, works_in) if works_in else None


def _workspace(given: str | None) -> str | None:
    """Return the copy of the files that an agent works in."""
    return workspace() if given is None else given if given != NO_WORKSPACE else None


def _bytes(name: str) -> bytes:
    """Encode a name; an invalid one is refused by the check of names, not by the codec."""
    return name.encode("utf-8", "surrogatepass")
