"""One agent: the verbs it speaks with, and the waits it can make (design, section 7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from fabric.client.emitter import Emitter
from fabric.client.mailbox import Mailbox
from fabric.client.message import Message
from fabric.client.session import Session
from fabric.core.signal import SignalType
from fabric.errors import (
    FabricError,
    NotAllowedError,
    ServerError,
    WaitTimeoutError,
)
from fabric.settings import Settings
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore
from fabric.wire.entry import decode
from fabric.wire.spelling import encode

logger = logging.getLogger("fabric.agent")

#: Characters of an exception's text that FAILED carries.
ERROR_CHARS_MAX = 500


class Agent:
    """An agent at work: `async with` sends STARTED, then COMPLETED, or FAILED on an exception.

    Signals are numbered within the incarnation that the server hands out at the start, so a signal
    that is sent again after a lost reply acts once. All times are ms unless named otherwise.
    """

    def __init__(
        self,
        store: ClientStore,
        keys: SessionKeys,
        emitter: Emitter,
        settings: Settings,
        *,
        partition: int,
        name: str,
        stream: str,
        declared: dict[str, Any],
    ) -> None:
        self.name = name
        self.stream = stream
        self.session = Session(store, keys)
        #: Handed out by the server when the agent starts; 0 before.
        self.incarnation = 0
        self._store = store
        self._keys = keys
        self._partition = partition
        self._emitter = emitter
        self._settings = settings
        self._declared = declared
        self._mailbox = Mailbox(store, keys, name, settings.block_ms)
        self._seq = 0
        self._turn = asyncio.Lock()
        self._spoke_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = True

    async def __aenter__(self) -> Agent:
        """Begin a new incarnation: STARTED, with what was declared."""
        self.incarnation = await self._emitter.insist(
            lambda: self._store.enroll(self._partition, self._keys.name, self.name)
        )
        self._mailbox = Mailbox(self._store, self._keys, self.name, self._settings.block_ms)
        await self._emitter.insist(self._mailbox.restore)
        self._seq, self._ended = 0, False
        await self.emit(SignalType.STARTED, self._declared)
        self._in_background(self._mailbox.run())
        self._in_background(self._keep_alive())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the incarnation, unless `complete` or `fail` has done so."""
        try:
            if error is None:
                if not self._ended:
                    await self.complete()
                await self._mailbox.leave()
            elif not self._ended:
                text = f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
                # The error that ended the agent matters more than one in reporting it.
                with suppress(FabricError):
                    await asyncio.shield(self.fail(text.encode(errors="replace").decode()))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def emit(self, kind: SignalType, payload: dict[str, Any] | None = None) -> str:
        """Send any signal; return its ingress id. Raises SignalError before anything is sent."""
        async with self._turn:
            return await self._send(kind, payload or {})

    async def _send(self, kind: SignalType, payload: dict[str, Any]) -> str:
        """Send a signal, now that it is its turn: numbers grow in the order of sending."""
        if self._ended:
            raise NotAllowedError(f"{self.name} has ended, or not begun: enter it (`async with`)")
        entry = encode(
            {
                "session": self._keys.name,
                "type": kind.value,
                "emitter": self.name,
                "stream": self.stream,
                "seq": self._seq + 1,
                "incarnation": self.incarnation,
                "payload": payload,
            }
        )
        decode(entry)
        # The number is spent even when sending fails: the signal may have arrived all the same.
        self._seq += 1
        (entry_id,) = await self._emitter.send([entry])
        self._spoke_at = asyncio.get_running_loop().time()
        return entry_id.decode()

    async def progress(
        self,
        percent: float | None = None,
        *,
        checkpoint: str | None = None,
        partial: dict[str, Any] | None = None,
        next_checkpoint: str | None = None,
    ) -> None:
        """Report how far the work has come, 0 to 100."""
        await self.emit(
            SignalType.PROGRESS,
            _given(
                percent=percent,
                checkpoint=checkpoint,
                partial=partial,
                next_checkpoint=next_checkpoint,
            ),
        )

    async def partial_result(
        self, partial: dict[str, Any], *, checkpoint: str | None = None
    ) -> None:
        """Hand over early findings: a document, or `{"findings": [{"key": …, "value": …}]}`."""
        await self.emit(SignalType.PARTIAL_RESULT, _given(partial=partial, checkpoint=checkpoint))

    async def checkpoint(self, name: str) -> None:
        """Say that a safe place to pause is reached."""
        await self.emit(SignalType.CHECKPOINT_REACHED, {"checkpoint": name})

    async def resolve(
        self, dependency: str, *, location: str | None = None, consumers: Sequence[str] = ()
    ) -> None:
        """Say that an output can be consumed, where, and by whom besides those who wait for it."""
        await self.emit(
            SignalType.DEPENDENCY_RESOLVED,
            _given(dependency_id=dependency, output_location=location, consumers=list(consumers)),
        )

    async def wait_for(
        self, dependency: str, *, reason: str | None = None, timeout: float | None = None
    ) -> str | None:
        """Wait until somebody resolves a dependency; return its location, if it has one.

        `timeout` is in seconds. Raises WaitTimeoutError, saying on whom it waited, or
        DependencyFailedError when all who were to produce it have failed. Either way, and when it
        is cancelled, the wait is withdrawn.
        """
        if dependency in self._mailbox.locations:
            return self._mailbox.locations[dependency]
        answer = self._mailbox.expect(dependency)
        try:
            async with asyncio.timeout(timeout):
                await self.emit(SignalType.BLOCKED, _given(on=dependency, reason=reason))
                return await answer
        except BaseException as error:
            self._mailbox.unexpect(dependency, answer)
            self._in_background(self._withdraw(dependency))
            if not isinstance(error, TimeoutError):
                raise
            whom = await self._blame(dependency)
            raise WaitTimeoutError(
                f"{self.name} waited {timeout:g} s for {dependency}: {whom}"
            ) from None
        finally:
            self._mailbox.unexpect(dependency, answer)

    def messages(self) -> AsyncGenerator[Message, None]:
        """Yield what arrives for this agent, from where it last was; never ends by itself.

        A message counts as read when the next one is asked for: what a crash left unread comes
        again in the next incarnation, with the same id.
        """
        return self._mailbox.messages()

    async def ahead(self, *, ahead_ms: int | None = None, capacity: int | None = None) -> None:
        """Say that there is capacity (EARLY_COMPLETION)."""
        await self.emit(SignalType.EARLY_COMPLETION, _given(ahead_ms=ahead_ms, capacity=capacity))

    async def complete(self, result: Any = None) -> None:
        """End well, with the full result. Afterwards the agent says nothing more."""
        await self.emit(SignalType.COMPLETED, _given(result=result))
        self._ended = True

    async def fail(self, error: str, *, retryable: bool = False) -> None:
        """End badly. Afterwards the agent says nothing more."""
        await self.emit(SignalType.FAILED, {"error": error, "retryable": retryable})
        self._ended = True

    async def _withdraw(self, dependency: str) -> None:
        async with self._turn:
            # Another wait for the same thing may have begun meanwhile: that one stands.
            if not self._ended and not self._mailbox.expects(dependency):
                with suppress(FabricError):
                    await self._send(SignalType.RELEASE, {"resources": [dependency]})

    async def _blame(self, dependency: str) -> str:
        try:
            return await self.session.blame(dependency)
        except ServerError as error:
            return f"on whom is not known ({error})"

    async def _keep_alive(self) -> None:
        """Send HEARTBEAT whenever nothing else was said for a while."""
        pause_s = self._settings.heartbeat_ms / 1000
        loop = asyncio.get_running_loop()
        while not self._ended:
            silent_s = loop.time() - self._spoke_at
            if silent_s < pause_s:
                await asyncio.sleep(pause_s - silent_s)
                continue
            try:
                async with self._turn:
                    # Something may have been said while this waited for its turn.
                    if loop.time() - self._spoke_at >= pause_s:
                        await self._send(SignalType.HEARTBEAT, {})
            except NotAllowedError:
                return
            except ServerError as error:
                logger.warning("%s: heartbeat: %s", self.name, error)
                await asyncio.sleep(pause_s)

    def _in_background(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s: internal error", self.name, exc_info=task.exception())


def _given(**fields: Any) -> dict[str, Any]:
    """Leave out what was not given."""
    return {name: value for name, value in fields.items() if value is not None}
