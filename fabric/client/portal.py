"""A thread with an event loop, for code that has none: calls into it, and blocks entered there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

from fabric.errors import NotAllowedError

T = TypeVar("T")


class Portal:
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


class Block(AbstractContextManager[T]):
    """A block of the asynchronous client, entered and left over there."""

    def __init__(self, block: AbstractAsyncContextManager[T], portal: Portal) -> None:
        self._block = block
        self._portal = portal

    def __enter__(self) -> T:
        return self._portal.run(self._enter())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._portal.run(self._leave(kind, error, trace))

    async def _enter(self) -> T:
        return await self._block.__aenter__()

    async def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._block.__aexit__(kind, error, trace)
