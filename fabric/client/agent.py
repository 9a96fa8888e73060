"""One agent: the signals it sends, and the waits it makes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar

from fabric.client.barrier import Integrations, Pauses
from fabric.client.emitter import Emitter, Sender
from fabric.client.grant import Grant, Grants, Writing
from fabric.client.mailbox import Mailbox
from fabric.client.message import Message, given
from fabric.client.notice import Notices, ResumePoint
from fabric.client.report import Reporting
from fabric.client.request import Requests
from fabric.client.session import Session
from fabric.client.start import Start
from fabric.client.task import NextTask, Taken
from fabric.client.trial import Trials
from fabric.client.wait import Waits
from fabric.config.settings import Settings
from fabric.core.quota import PREFIX as QUOTA
from fabric.core.signal import SignalType
from fabric.core.task import TaskSpec
from fabric.errors import EndedError, FabricError, NameTakenError, WaitTimeoutError
from fabric.store.keys import SessionKeys

logger = logging.getLogger("fabric.agent")

T = TypeVar("T")

#: Characters of an exception's text that FAILED carries.
ERROR_CHARS_MAX = 500


class AgentFacts:
    """What an agent and its synchronous twin know about the agent."""

    #: The agent itself, or the one behind the twin.
    _original: Agent

    @property
    def name(self) -> str:
        """The agent's name, unique in its session."""
        return self._original._name

    @property
    def stream(self) -> str:
        """The line of work it belongs to; empty if it belongs to none."""
        return self._original._stream

    @property
    def incarnation(self) -> int:
        """The number that the server assigned when the agent last started; 0 before."""
        return self._original._sender.incarnation

    @property
    def is_over(self) -> bool:
        """Whether its incarnation is over: it has ended, was declared dead or replaced."""
        return self._original._sender.has_ended or self._original._sender.over is not None

    @property
    def cancelled(self) -> str | None:
        """Why the agent is to stop, if a CANCEL has told it to, for example because another agent
        of its group has failed; else None. The agent has to stop by itself.
        """
        return self._original._notices.cancelled

    @property
    def paused_by(self) -> str | None:
        """The barrier, or the quota, for which the agent is to pause at its next checkpoint."""
        return self._original._pauses.in_force

    @property
    def resumed(self) -> ResumePoint | None:
        """Where the last incarnation was when it was cut off; None if it was not cut off.

        It is also None until the message has arrived; after `ready` it has.
        """
        return self._original._notices.resumed


class Agent(AgentFacts, Reporting):
    """A running agent: `async with` sends STARTED, then COMPLETED, or FAILED on an exception.

    Signals are numbered within the incarnation that the server assigns at the start, so a signal
    that is sent again after a lost reply takes effect once. Every `timeout` is in seconds, and
    raises WaitTimeoutError, which says what the agent waited for, and for whom; all other times are
    in ms unless their names say otherwise.

    The methods that wait for something shared (`ready`, `checkpoint`, `writing`, `wait_for`,
    `escalate`, `integrating`) raise NotAllowedError if the orchestrator refuses them. A waiting
    agent counts as arrived at an integration; so these methods return, or raise what another agent
    caused, only when no such integration is under way. A timeout raises at once.
    """

    def __init__(
        self,
        keys: SessionKeys,
        emitter: Emitter,
        settings: Settings,
        *,
        name: str,
        stream: str,
        declared: dict[str, Any],
        start: Start | None = None,
    ) -> None:
        self._original = self
        self._name = name
        self._stream = stream
        self._session = Session(emitter.store, keys)
        self._emitter = emitter
        self._settings = settings
        self._declared = {**declared, "heartbeat_ms": settings.heartbeat_ms}
        self._start = start or Start()
        self._sender = Sender(emitter, keys.name, name, stream)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._prepare(0)

    def _prepare(self, number: int) -> None:
        """Make the state of an incarnation; nothing of the one before is in force."""
        self._requests = requests = Requests(self._session, self._sender, self._in_background)
        self._pauses = pauses = Pauses(requests)
        self._notices = Notices(self._name, number, self._lose, self._overtake)
        self._grants = Grants(requests, pauses, is_successor=number > 1)
        self._waits = Waits(requests, self._grants)
        self._integrations = Integrations(requests, pauses)
        self._tasks_taken = Taken(requests, self._notices, self._declared.get("task"))
        self._trials = trials = Trials(requests, self._declared.get("workspace"))
        requests.on_went_back = self._grants.compare_soon
        self._sender.on_lost = self._on_lost
        # Each sees every message in turn, pauses first: what then takes an answer knows whether a
        # pause was in force before it.
        listeners = (pauses, self._grants, self._waits, self._integrations, self._notices, trials)
        self._mailbox = Mailbox(requests, listeners, self._settings.block_ms)

    def __repr__(self) -> str:
        if not self.incarnation:
            state = "not started"
        else:
            state = "ended" if self._sender.has_ended else "running"
            state += f", incarnation {self.incarnation}"
        stream = f" on {self._stream!r}" if self._stream else ""
        return f"<Agent {self._name!r}{stream} in session {self._session.name!r}: {state}>"

    @property
    def session(self) -> Session:
        """The session it works in, to look at."""
        return self._session

    async def __aenter__(self) -> Agent:
        """Start a new incarnation: send STARTED, with what was declared.

        Raises NameTakenError if another living process has the name, unless the rules offer another
        name: then the agent has that one.
        """
        deadline = self._emitter.deadline()
        while True:
            try:
                await self._begin(deadline)
            except NameTakenError as taken:
                await self._stop()
                if self._start.goes_on(taken):
                    continue
                if not taken.free_name:
                    raise
                logger.warning("%s: %s; going on as it", self._name, taken)
                self._name = taken.free_name
                self._sender = Sender(self._emitter, self._session.name, self._name, self._stream)
            except BaseException:
                await self._stop()
                raise
            else:
                return self

    async def _begin(self, deadline: float) -> None:
        emitter, session = self._emitter, self._session.name
        incarnation = await emitter.retry(
            lambda: emitter.store.enroll(emitter.partition, session, self._name), deadline=deadline
        )
        self._prepare(incarnation)
        await emitter.retry(self._mailbox.restore, deadline=deadline)
        self._sender.begin(incarnation, self._start.begin())

        def listen() -> None:
            self._in_background(self._mailbox.run())

        await self._start.send(self._requests, self._declared, deadline, listen)
        self._in_background(self._sender.send_heartbeats(self._settings.heartbeat_ms / 1000))

    async def _stop(self) -> None:
        """Stop what goes on in the background."""
        self._start.end()
        await self._trials.over()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """End the incarnation, unless `complete` or `fail` has already ended it."""
        try:
            if error is None:
                if not self._sender.has_ended:
                    await self.complete()
                await self._mailbox.leave()
            elif not self._sender.has_ended:
                text = f"{type(error).__name__}: {error}"[:ERROR_CHARS_MAX]
                # The error that ended the agent matters more than one in reporting it.
                with suppress(FabricError):
                    await asyncio.shield(self.fail(text.encode(errors="replace").decode()))
        finally:
            await self._stop()

    async def leave(self) -> None:
        """Stop speaking for this incarnation without ending it: another process goes on, or none.

        What the agent holds stays its own until it is released or the agent is declared dead.
        """
        try:
            await self._mailbox.leave()
        finally:
            await self._stop()

    async def emit(self, kind: SignalType, payload: dict[str, Any] | None = None) -> str:
        """Send any signal; return its ingress id. Raises SignalError before anything is sent."""
        return await self._sender.send(kind, payload or {})

    async def progress(
        self,
        percent: float | None = None,
        *,
        checkpoint: str | None = None,
        partial: dict[str, Any] | None = None,
        next_checkpoint: str | None = None,
        expect_ms: int | None = None,
    ) -> None:
        """Report how far the work has come, in percent from 0 to 100.

        `expect_ms` announces a silence, as in `heartbeat`.
        """
        partial, _ = await self._hand_over(partial)
        await self._report(
            SignalType.PROGRESS,
            percent=percent,
            checkpoint=checkpoint,
            partial=partial,
            next_checkpoint=next_checkpoint,
            expect_ms=expect_ms,
        )

    async def heartbeat(self, *, expect_ms: int | None = None) -> None:
        """Say that the agent is alive; it also does so by itself while its event loop runs.

        `expect_ms` announces that nothing else will be heard for so long, during a build for
        example: until then the agent is not taken for dead or stuck. It holds until the agent's
        next signal of another kind. The rules bound it (`liveness.expect_ms_max`).
        """
        await self._report(SignalType.HEARTBEAT, expect_ms=expect_ms)

    async def ready(self, *, timeout: float | None = None) -> None:
        """Return when the start has been handled, and no integration under way holds the agent.

        An agent that starts during an integration is held until the integration is over. STARTED
        alone does not tell it: work that must not begin too early begins after this.
        """
        await self._pauses.reach(None, timeout)

    async def checkpoint(self, name: str, *, timeout: float | None = None) -> None:
        """Report a safe place to pause, and pause there if an integration asks for it.

        Returns when the signal itself has come back, so that everything before it is known, and
        when the integration that meets the agent here is over. After a timeout the agent still
        counts as arrived.
        """
        await self._pauses.reach(name, timeout)

    def writing(
        self, *writes: str, reads: Sequence[str] = (), timeout: float | None = None
    ) -> AbstractAsyncContextManager[Grant]:
        """Ask for paths, globs or named things, all or none: `async with` waits for the grant.

        The end of the block releases all of them. The grant is the agent's: two of its tasks do not
        exclude each other, and what both use is released with the last. Raises DeadlockError if the
        agents would wait for each other forever; see Grant for what can be taken away.
        """
        return Writing(self._grants, writes, reads, timeout)

    def integrating(
        self,
        name: str,
        *,
        deadline_ms: int | None = None,
        level: int = 3,
        timeout: float | None = None,
    ) -> AbstractAsyncContextManager[None]:
        """Have all agents meet at a safe place: `async with` waits until they have all arrived.

        The end of the block lets them go on. Raises BarrierError if the integration is cancelled or
        cannot be called. If the block raises, the others stay paused: enter it again under the same
        name to try again, or release them with `emit(SignalType.INTEGRATED, {"name": name})`; the
        end of the agent releases them too.
        """
        payload = given(name=name, level=level, deadline_ms=deadline_ms)
        return self._integrations.integrating(payload, timeout)

    async def escalate(
        self,
        question: str,
        *,
        options: Sequence[str] = (),
        context: Any = None,
        to: str | None = None,
        id: str | None = None,  # noqa: A002 - the payload's own name for it
        deadline_ms: int | None = None,
        default: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Ask a person, or the agent `to`; return the decision.

        `id` identifies the question; without one, the agent makes one up. If nobody has answered
        `deadline_ms` after the question was taken, `default` is the decision; without a default,
        this raises WaitTimeoutError. The question stays open after that, and after a timeout.
        """
        optional = given(
            options=list(options) or None, context=context, to=to,
            deadline_ms=deadline_ms, default=default,
        )  # fmt: skip
        return await self._waits.ask({"question": question, "id": id or None, **optional}, timeout)

    async def decide(self, id: str, answer: str) -> None:  # noqa: A002 - see escalate
        """Answer a question that this agent was asked, by the `id` in the ESCALATE."""
        await self.emit(SignalType.DECIDED, {"escalation": id, "decision": answer})

    async def release(self, *names: str) -> None:
        """Release resources that another agent held and that `wait_for` has got."""
        await self._grants.release(names)

    async def resolve(
        self, dependency: str, *, location: str | None = None, consumers: Sequence[str] = ()
    ) -> None:
        """Announce that an output is ready, and where it is.

        Agents that wait for it are told, and `consumers`, which need not wait for it.
        """
        await self._report(
            SignalType.DEPENDENCY_RESOLVED,
            dependency_id=dependency,
            output_location=location,
            consumers=list(consumers),
        )

    async def wait_for(
        self, dependency: str, *, reason: str | None = None, timeout: float | None = None
    ) -> str | None:
        """Wait until an agent resolves a dependency; return its location, if it has one.

        For a question, wait for the decision and return it. For a resource that another agent
        holds, wait for the turn and return None; the agent then has it until `release` (`writing`
        releases by itself). Raises DependencyFailedError if all producers have failed, and
        DeadlockError if the agents would wait for each other forever. After an error, a timeout or
        a cancellation the wait is withdrawn.
        """
        return await self._waits.wait_for(dependency, reason, timeout)

    async def rate_limited(
        self, quota: str, for_ms: int, *, reason: str | None = None, timeout: float | None = None
    ) -> None:
        """Report that a quota is used up for so long, and wait until it is available again.

        All agents that have declared it (`quotas`) pause meanwhile, at their next checkpoint.
        """
        await self._waits.wait_for(f"{QUOTA}{quota}", reason, timeout, for_ms)

    def messages(self) -> AsyncGenerator[Message, None]:
        """Yield what arrives for this agent, from where it last stopped.

        Never ends by itself; raises EndedError when the incarnation is over. A message counts as
        read when the next one is asked for. Messages that a crash left unread come again in the
        next incarnation, with the same ids. Signals that the same task sends meanwhile count as
        answers to the message, so that endless answers to answers are stopped.
        """
        return self._mailbox.messages()

    async def take_messages(self) -> list[Message]:
        """Return what has arrived and was not returned before, without waiting.

        It counts as read with the next call. Do not use it beside `messages()`.
        """
        return await self._mailbox.take()

    async def ahead(self, *, ahead_ms: int | None = None, capacity: int | None = None) -> None:
        """Report that the agent is ahead of time and has capacity (EARLY_COMPLETION)."""
        await self._report(SignalType.EARLY_COMPLETION, ahead_ms=ahead_ms, capacity=capacity)

    async def begin(self, task: str, *, timeout: float | None = None) -> int:
        """Take a task of the board, as a new STARTED does; return its fencing token.

        A task that the agent has not completed goes back to the board. Raises HeldError, which
        names the agent, if another has it; NotAllowedError if it is completed already, comes after
        another, or was begun too often.
        """
        return await self._tasks_taken.begin(task, {**self._declared, "task": task}, timeout)

    async def next_task(self, *, timeout: float | None = None) -> NextTask:
        """Ask for a task, by the same rules as all others, and begin it; wait until there is one.

        After a timeout the agent is offered nothing more before it asks again.
        """
        return await self._tasks_taken.next_task(self.begin, timeout)

    async def done(self, task: str | None = None) -> None:
        """Say that a task is complete, by default the one begun last; go on without one."""
        await self._tasks_taken.done(task)

    async def retry(self, task: str) -> None:
        """Have a completed or failed task done again."""
        await self._report(SignalType.TASK_RETRY, task=task)

    async def add_tasks(self, *tasks: TaskSpec) -> None:
        """Put tasks onto the board, at most 1,000: all of them, or none if one is refused."""
        await self._report(SignalType.TASKS_ADDED, tasks=list(tasks))

    async def complete(
        self,
        result: Any = None,
        *,
        all: bool = False,  # noqa: A002 - the protocol's own name for it
    ) -> None:
        """End with the full result; return when the fabric has accepted it.

        With `all` the agent withdraws whatever it has said before and the result leaves out. After
        that the agent sends nothing more. Raises EndedError or NotAllowedError if the end is
        refused, and WaitTimeoutError if no orchestrator has decided it in `confirm_ms`.
        """
        requests, limit_s = self._requests, self._settings.confirm_ms / 1000
        result, whole = await self._hand_over(result, is_whole=all)
        async with requests.opened(requests.confirmation, reads_dead=False) as request:
            payload = {**given(result=result, all=whole), "confirm": True}
            await request.send(SignalType.COMPLETED, payload)
            self._sender.has_ended = True
            try:
                async with asyncio.timeout(limit_s):
                    await request.answer() if limit_s else None
            except TimeoutError:
                raise WaitTimeoutError(
                    f"{self._name}: COMPLETED was sent, and not decided in {limit_s:g} s; is an "
                    "orchestrator running? (fabric status) It counts as soon as one has decided it"
                ) from None

    async def fail(self, error: str, *, retryable: bool = False) -> None:
        """End with an error. After that the agent sends nothing more."""
        await self.emit(SignalType.FAILED, {"error": error, "retryable": retryable})
        self._sender.has_ended = True

    async def _report(self, kind: SignalType, **fields: Any) -> None:
        """Send a signal with the fields that were given."""
        await self.emit(kind, given(**fields))

    def _lose(self, reason: str) -> None:
        """Take note that this incarnation is over, though its process lives."""
        error = self._sender.over = EndedError(f"{self._name}: {reason}")
        self._grants.lose_all()
        self._pauses.end_all()
        self._requests.fail_all(error)
        self._mailbox.end(error)

    def _on_lost(self, known: int, first: int) -> None:
        logger.warning(
            "%s: the server has lost what came after signal %d; sent again from signal %d on",
            self._name, known, first,
        )  # fmt: skip
        self._requests.fail_lost(known, first)
        self._grants.compare_soon()

    def _overtake(self, seq: int, after: int) -> None:
        """Go on above a number that another process has sent in this agent's name, if possible."""
        sender = self._sender
        if seq <= sender.seq:
            return  # a number of our own: we gave up the signals before it
        what = f"another process has sent number {seq} in its name"
        if sender.seq > after:
            self._lose(f"{what}, so its own from {after + 1} to {sender.seq} do not count")
            return
        logger.warning("%s: %s; going on above it", self._name, what)
        sender.seq = seq

    def _in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s: internal error", self._name, exc_info=task.exception())
