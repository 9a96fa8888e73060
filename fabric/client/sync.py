"""The synchronous twin: the same verbs for code without an event loop.

Nothing is written twice: one background thread runs an event loop with the asynchronous client, and
each call here waits for the same call there. So heartbeats go on while the caller computes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.client.grant import Grant
from fabric.client.message import Message
from fabric.client.portal import Block, Portal
from fabric.client.revision import Revision
from fabric.client.session import Session
from fabric.client.told import Past
from fabric.client.voice import handled_hops
from fabric.core.signal import SignalType
from fabric.view.synthesis import Synthesis


class SyncFabric:
    """See Fabric: `with SyncFabric.connect() as fabric`."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._portal: Portal | None = None

    @classmethod
    def connect(cls, redis_url: str | None = None, **flags: Any) -> SyncFabric:
        """See Fabric.connect."""
        return cls(Fabric.connect(redis_url, **flags))

    def __enter__(self) -> SyncFabric:
        """Connect."""
        self._portal = Portal()
        try:
            self._portal.run(self._fabric.__aenter__())
        except BaseException:
            self._portal.close(self._fabric.__aexit__(None, None, None))
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        assert self._portal is not None
        self._portal.close(self._fabric.__aexit__(kind, error, trace))

    def agent(self, name: str | None = None, **declared: Any) -> SyncAgent:
        """See Fabric.agent; enter it with `with`."""
        assert self._portal is not None, "use `with SyncFabric.connect() as fabric`"
        return SyncAgent(self._fabric.agent(name, **declared), self._portal)

    def session(self, name: str | None = None) -> SyncSession:
        """See Fabric.session."""
        assert self._portal is not None, "use `with SyncFabric.connect() as fabric`"
        return SyncSession(self._fabric.session(name), self._portal)

    def emit(self, documents: Iterable[Mapping[str, Any]]) -> list[str]:
        """See Fabric.emit."""
        assert self._portal is not None, "use `with SyncFabric.connect() as fabric`"
        return self._portal.run(self._fabric.emit(documents))


class SyncSession:
    """See Session: what a synchronous program reads of one, its synthesis."""

    def __init__(self, session: Session, portal: Portal) -> None:
        self._session = session
        self._portal = portal

    @property
    def name(self) -> str:
        """See Session."""
        return self._session.name

    def synthesis(self, *, revision: int | None = None) -> Synthesis:
        """See Session.synthesis."""
        return self._portal.run(self._session.synthesis(revision=revision))

    def until_final(self, *, timeout: float | None = None) -> Synthesis:
        """See Session.until_final."""
        return self._portal.run(self._session.until_final(timeout=timeout))

    def revisions(self, after: int = 0, *, follow: bool = True) -> Generator[Revision, None, None]:
        """See Session.revisions."""
        source = self._session.revisions(after, follow=follow)

        async def following() -> Revision | None:
            return await anext(source, None)

        while (revision := self._portal.run(following())) is not None:
            yield revision


class SyncAgent:
    """See Agent."""

    def __init__(self, agent: Agent, portal: Portal) -> None:
        self._agent = agent
        self._portal = portal

    @property
    def name(self) -> str:
        """See Agent."""
        return self._agent.name

    @property
    def incarnation(self) -> int:
        """See Agent."""
        return self._agent.incarnation

    @property
    def cancelled(self) -> str | None:
        """See Agent."""
        return self._agent.cancelled

    @property
    def resumed(self) -> Past | None:
        """See Agent."""
        return self._agent.resumed

    def __enter__(self) -> SyncAgent:
        """See Agent."""
        self._portal.run(self._agent.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """See Agent."""
        self._portal.run(self._agent.__aexit__(kind, error, trace))

    def emit(self, kind: SignalType, payload: dict[str, Any] | None = None) -> str:
        """See Agent.emit."""
        return self._portal.run(self._agent.emit(kind, payload))

    def progress(
        self,
        percent: float | None = None,
        *,
        checkpoint: str | None = None,
        partial: dict[str, Any] | None = None,
        next_checkpoint: str | None = None,
    ) -> None:
        """See Agent.progress."""
        self._portal.run(
            self._agent.progress(
                percent, checkpoint=checkpoint, partial=partial, next_checkpoint=next_checkpoint
            )
        )

    def partial_result(self, partial: dict[str, Any], *, checkpoint: str | None = None) -> None:
        """See Agent.partial_result."""
        self._portal.run(self._agent.partial_result(partial, checkpoint=checkpoint))

    def ready(self, *, timeout: float | None = None) -> None:
        """See Agent.ready."""
        self._portal.run(self._agent.ready(timeout=timeout))

    def checkpoint(self, name: str, *, timeout: float | None = None) -> None:
        """See Agent.checkpoint."""
        self._portal.run(self._agent.checkpoint(name, timeout=timeout))

    def writing(
        self, *writes: str, reads: Sequence[str] = (), timeout: float | None = None
    ) -> AbstractContextManager[Grant]:
        """See Agent.writing; look at `is_current`, `lost` is for tasks."""
        return Block(self._agent.writing(*writes, reads=reads, timeout=timeout), self._portal)

    def integrating(
        self,
        name: str,
        *,
        deadline_ms: int | None = None,
        level: int = 3,
        timeout: float | None = None,
    ) -> AbstractContextManager[None]:
        """See Agent.integrating."""
        block = self._agent.integrating(name, deadline_ms=deadline_ms, level=level, timeout=timeout)
        return Block(block, self._portal)

    def escalate(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        context: Any = None,
        to: str | None = None,
        id: str | None = None,  # noqa: A002 - see Agent.escalate
        timeout: float | None = None,
    ) -> str:
        """See Agent.escalate."""
        return self._portal.run(
            self._agent.escalate(
                question, options=options, context=context, to=to, id=id, timeout=timeout
            )
        )

    def decide(self, id: str, answer: str) -> None:  # noqa: A002 - see Agent.escalate
        """See Agent.decide."""
        self._portal.run(self._agent.decide(id, answer))

    def release(self, *names: str) -> None:
        """See Agent.release."""
        self._portal.run(self._agent.release(*names))

    def resolve(
        self, dependency: str, *, location: str | None = None, consumers: Sequence[str] = ()
    ) -> None:
        """See Agent.resolve."""
        self._portal.run(self._agent.resolve(dependency, location=location, consumers=consumers))

    def wait_for(
        self, dependency: str, *, reason: str | None = None, timeout: float | None = None
    ) -> str | None:
        """See Agent.wait_for."""
        return self._portal.run(self._agent.wait_for(dependency, reason=reason, timeout=timeout))

    def messages(self) -> Generator[Message, None, None]:
        """See Agent.messages."""
        source = self._agent.messages()

        async def following() -> Message:
            return await anext(source)

        while True:
            message = self._portal.run(following())
            # Each call over there begins with what holds here.
            handled_hops.set(message.hops)
            try:
                yield message
            finally:
                handled_hops.set(0)

    def ahead(self, *, ahead_ms: int | None = None, capacity: int | None = None) -> None:
        """See Agent.ahead."""
        self._portal.run(self._agent.ahead(ahead_ms=ahead_ms, capacity=capacity))

    def complete(self, result: Any = None) -> None:
        """See Agent.complete."""
        self._portal.run(self._agent.complete(result))

    def fail(self, error: str, *, retryable: bool = False) -> None:
        """See Agent.fail."""
        self._portal.run(self._agent.fail(error, retryable=retryable))
