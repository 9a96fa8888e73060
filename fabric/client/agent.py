"""One agent: the verbs it speaks with, and the waits it can make (design, section 7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from fabric.client.emitter import Emitter
from fabric.client.grant import Writing
from fabric.client.integration import Integrating
from fabric.client.life import Life
from fabric.client.message import Message
from fabric.client.session import Session
from fabric.client.told import Past
from fabric.client.voice import Voice
from fabric.config.settings import Settings
from fabric.core.signal import SignalType
from fabric.errors import FabricError
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore

logger = logging.getLogger("fabric.agent")

#: Characters of an exception's text that FAILED carries.
ERROR_CHARS_MAX = 500


class Agent:
    """An agent at work: `async with` sends STARTED, then COMPLETED, or FAILED on an exception.

    Signals are numbered within the incarnation that the server hands out at the start, so a signal
    that is sent again after a lost reply acts once. All times are ms unless named otherwise; every
    `timeout` is in seconds, and raises WaitTimeoutError, which says for what and on whom it waited.

    The verbs that wait for something shared (`ready`, `checkpoint`, `writing`, `wait_for`,
    `escalate`, `integrating`) raise NotAllowedError when the orchestrator refuses them, and return
    only when no integration that has met the agent is under way: who waits counts as arrived.
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
        self._store = store
        self._keys = keys
        self._partition = partition
        self._emitter = emitter
        self._settings = settings
        self._declared = declared
        self._voice = Voice(emitter, keys.name, name, stream)
        self._tasks: set[asyncio.Task[None]] = set()
        self._prepare(0)

    def _prepare(self, incarnation: int) -> None:
        """Make what one incarnation keeps: nothing of the last one is in force."""
        self._life = Life(
            self._store,
            self._keys,
            self._emitter,
            self._voice,
            self._in_background,
            dead=self._store.namespace.partition(self._partition).dead,
            name=self.name,
            block_ms=self._settings.block_ms,
            is_successor=incarnation > 1,
        )
        self._mailbox = self._life.mailbox

    @property
    def incarnation(self) -> int:
        """The number that the server handed out when the agent last started; 0 before."""
        return self._voice.incarnation

    @property
    def cancelled(self) -> str | None:
        """Why the agent is to stop, once it has been told so (CANCEL that names nothing else, as
        after a failure in its group); None until then. It is for the agent to obey.
        """
        return self._life.told.cancelled

    @property
    def resumed(self) -> Past | None:
        """Where the last incarnation was, when it was cut off; None when it was not, and until the
        message has come. After `ready` it has.
        """
        return self._life.told.resumed

    async def __aenter__(self) -> Agent:
        """Begin a new incarnation: STARTED, with what was declared."""
        incarnation = await self._emitter.retry(
            lambda: self._store.enroll(self._partition, self._keys.name, self.name)
        )
        self._prepare(incarnation)
        await self._emitter.retry(self._mailbox.restore)
        self._voice.begin(incarnation)
        await self.emit(SignalType.STARTED, self._declared)
        self._in_background(self._mailbox.run())
        self._in_background(self._voice.keep_alive(self._settings.heartbeat_ms / 1000))
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
                if not self._voice.ended:
                    await self.complete()
                await self._mailbox.leave()
            elif not self._voice.ended:
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
        return await self._voice.say(kind, payload or {})

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

    async def ready(self, *, timeout: float | None = None) -> None:
        """Return when the start has been handled, and no integration under way holds the agent.

        Whoever starts while an integration is under way is held until that is over. Nobody learns
        so from STARTED alone: what must not begin too early, begins after this.
        """
        await self._life.checkpoints.reach(None, timeout)

    async def checkpoint(self, name: str, *, timeout: float | None = None) -> None:
        """Say that a safe place to pause is reached, and pause there when that is asked for.

        Returns when its own signal has come back, so that all that came before it is known, and
        when the integration that met it here, if any, is over. After a timeout the agent counts as
        arrived all the same.
        """
        await self._life.checkpoints.reach(name, timeout)

    def writing(
        self, *writes: str, reads: Sequence[str] = (), timeout: float | None = None
    ) -> Writing:
        """Ask for paths, globs or named things, all or none: `async with` waits for the grant.

        At the end of the block all is given back. It is the agent's: two of its tasks do not keep
        each other out, and what both use goes back with the last. Raises DeadlockError when the
        agents would wait for each other for ever; see Grant for what can be taken away.
        """
        return Writing(self._life.grants, writes, reads, timeout)

    def integrating(
        self,
        name: str,
        *,
        deadline_ms: int | None = None,
        level: int = 3,
        timeout: float | None = None,
    ) -> Integrating:
        """Have all agents meet at a safe place: `async with` waits for them, its end lets them go.

        Raises BarrierError when it is called off or cannot be called. When the block raises, the
        others stay where they are: enter it again under the same name to try again, or let them go
        with `emit(SignalType.INTEGRATED, {"name": name})`; the end of the agent lets them go too.
        """
        return Integrating(
            self._life.integrations, name, deadline_ms=deadline_ms, level=level, timeout_s=timeout
        )

    async def escalate(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        context: Any = None,
        to: str | None = None,
        id: str | None = None,  # noqa: A002 - the payload's own name for it
        timeout: float | None = None,
    ) -> str:
        """Ask a person, or the agent `to`; return what was decided.

        The question is known by `id`, made up when none is given; it stays open after a timeout.
        """
        return await self._life.enquiries.ask(
            question, options=options, context=context, to=to, id_=id, timeout_s=timeout
        )

    async def decide(self, id: str, answer: str) -> None:  # noqa: A002 - see escalate
        """Answer a question that this agent was asked, by its `id` in the ESCALATE."""
        await self.emit(SignalType.DECIDED, {"escalation": id, "decision": answer})

    async def release(self, *names: str) -> None:
        """Give back what `wait_for` has waited for and got: resources that another had."""
        await self._life.grants.give_back(names)

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

        Of a question it waits for the decision, and returns it. Of a resource that another agent
        holds it waits for its turn, returns None, and has it until `release`; `writing` gives it
        back by itself. Raises DependencyFailedError when all who were to produce it have failed,
        DeadlockError when the agents would wait for each other for ever. Then, after a timeout, and
        when it is cancelled, the wait is withdrawn.
        """
        return await self._life.waits.wait_for(dependency, reason, timeout)

    def messages(self) -> AsyncGenerator[Message, None]:
        """Yield what arrives for this agent, from where it last was; never ends by itself.

        A message counts as read when the next one is asked for: what a crash left unread comes
        again in the next incarnation, with the same id. What the same task says meanwhile is taken
        for an answer to it, so that agents who answer each other for ever are stopped.
        """
        return self._mailbox.messages()

    async def ahead(self, *, ahead_ms: int | None = None, capacity: int | None = None) -> None:
        """Say that there is capacity (EARLY_COMPLETION)."""
        await self.emit(SignalType.EARLY_COMPLETION, _given(ahead_ms=ahead_ms, capacity=capacity))

    async def complete(self, result: Any = None) -> None:
        """End well, with the full result. Afterwards the agent says nothing more."""
        await self.emit(SignalType.COMPLETED, _given(result=result))
        self._voice.ended = True

    async def fail(self, error: str, *, retryable: bool = False) -> None:
        """End badly. Afterwards the agent says nothing more."""
        await self.emit(SignalType.FAILED, {"error": error, "retryable": retryable})
        self._voice.ended = True

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s: internal error", self.name, exc_info=task.exception())


def _given(**fields: Any) -> dict[str, Any]:
    """Leave out what was not given."""
    return {name: value for name, value in fields.items() if value is not None}
