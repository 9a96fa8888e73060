"""The synchronous twin: the same verbs for code without an event loop.

Nothing is written twice: one background thread runs an event loop with the asynchronous client, and
each call here waits for the same call there. So heartbeats go on while the caller computes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, TypeVar

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.client.message import Message
from fabric.core.signal import SignalType
from fabric.errors import NotAllowedError

T = TypeVar("T")


class _Portal:
    """A thread with an event loop, and the way into it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fabric", daemon=True)
        self._thread.start()
        self._is_open = True
        #: No call comes between the last one and the end.
        self._turn = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine over there and return what it returns, or raise what it raises.

        Raises NotAllowedError when the portal is closed, before or meanwhile.
        """
        with self._turn:
            if not self._is_open:
                work.close()
                raise NotAllowedError("the fabric is closed: use it inside its `with` block")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise NotAllowedError("the fabric was closed while a call was under way") from None
        except BaseException:
            # Ctrl-C here: the call over there must not go on by itself.
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """End what is under way, for whoever waits for it; do one last thing, stop the thread."""
        with self._turn:
            self._is_open = False
            ending = asyncio.run_coroutine_threadsafe(self._wind_up(last), self._loop)
        try:
            ending.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _wind_up(self, last: Coroutine[Any, Any, None]) -> None:
        # One that is cancelled may begin another, to take back what it has asked for.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await last
        await self._loop.shutdown_asyncgens()


class SyncFabric:
    """See Fabric: `with SyncFabric.connect() as fabric`."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._portal: _Portal | None = None

    @classmethod
    def connect(cls, redis_url: str | None = None, **flags: Any) -> SyncFabric:
        """See Fabric.connect."""
        return cls(Fabric.connect(redis_url, **flags))

    def __enter__(self) -> SyncFabric:
        """Connect."""
        self._portal = _Portal()
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

    def emit(self, documents: Iterable[Mapping[str, Any]]) -> list[str]:
        """See Fabric.emit."""
        assert self._portal is not None, "use `with SyncFabric.connect() as fabric`"
        return self._portal.run(self._fabric.emit(documents))


class SyncAgent:
    """See Agent."""

    def __init__(self, agent: Agent, portal: _Portal) -> None:
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

    def checkpoint(self, name: str) -> None:
        """See Agent.checkpoint."""
        self._portal.run(self._agent.checkpoint(name))

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
            yield self._portal.run(following())

    def ahead(self, *, ahead_ms: int | None = None, capacity: int | None = None) -> None:
        """See Agent.ahead."""
        self._portal.run(self._agent.ahead(ahead_ms=ahead_ms, capacity=capacity))

    def complete(self, result: Any = None) -> None:
        """See Agent.complete."""
        self._portal.run(self._agent.complete(result))

    def fail(self, error: str, *, retryable: bool = False) -> None:
        """See Agent.fail."""
        self._portal.run(self._agent.fail(error, retryable=retryable))
