"""The synchronous twin of Fabric, Session and Agent, for code without an event loop.

A background thread runs an event loop with the asynchronous client, and each call here waits for
the same call there. So heartbeats go on while the caller computes. tests/client/test_twin.py
compares both faces: names, arguments and docstrings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import wraps
from inspect import signature
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from fabric.client.agent import Agent, AgentFacts
from fabric.client.emitter import handled_hops
from fabric.client.fabric import Connector, Fabric
from fabric.client.loop_thread import LoopThread
from fabric.client.message import Message
from fabric.client.session import Session
from fabric.config.settings import Settings
from fabric.errors import NotAllowedError
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
Original = TypeVar("Original", covariant=True)

_END = object()


class _Block(AbstractContextManager[T]):
    """An asynchronous context manager, entered and left in the loop."""

    def __init__(self, block: AbstractAsyncContextManager[T], thread: LoopThread) -> None:
        self._block = block
        self._thread = thread

    def __enter__(self) -> T:
        return self._thread.run(self._block.__aenter__())

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._thread.run(self._block.__aexit__(kind, error, trace))


def _iterate(source: AsyncIterator[T], thread: LoopThread) -> Generator[T, None, None]:
    """Yield what an asynchronous iterator yields, each asked for in the loop."""

    async def following() -> T | object:
        return await anext(source, _END)

    while (found := thread.run(following())) is not _END:
        yield found  # type: ignore[misc]  # the end is the only other object


class _Twin(Generic[Original]):
    """The synchronous face of an original, which lives in the loop of a thread, once there is one.

    Its methods that are `_awaited` or `_faced` are those of the original, with its arguments.
    """

    def __init__(self, original: Original, thread: LoopThread | None = None) -> None:
        self._original = original
        self._started = thread

    def __repr__(self) -> str:
        return repr(self._original).replace("<", "<Sync", 1)

    @property
    def _thread(self) -> LoopThread:
        if self._started is None:
            raise NotAllowedError("not connected: use `with SyncFabric.connect() as fabric`")
        return self._started


def _faced(
    method: Callable[Concatenate[Original, P], T],
    face: Callable[[T, LoopThread], R],
    returns: str | None = None,
) -> Callable[Concatenate[_Twin[Original], P], R]:
    """Return a method of the twin that makes the same call, and returns a face of its result."""

    @wraps(method)
    def call(twin: _Twin[Original], /, *arguments: P.args, **options: P.kwargs) -> R:
        thread = twin._thread
        return face(method(twin._original, *arguments, **options), thread)

    call.__doc__ = str(method.__doc__).replace("async with", "with")
    if returns is not None:
        # For `help`: `wraps` alone would show what the original returns.
        vars(call)["__signature__"] = signature(method).replace(return_annotation=returns)
    return call


def _awaited(
    method: Callable[Concatenate[Original, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Twin[Original], P], T]:
    """Return a method of the twin that makes the same call in the loop, and waits for it."""
    return _faced(method, lambda work, thread: thread.run(work))


class SyncSession(_Twin[Session]):
    """A session as the store shows it; every call reads it again, none writes."""

    @property
    def name(self) -> str:
        """The session's name."""
        return self._original.name

    @property
    def keys(self) -> SessionKeys:
        """The names of the session's keys."""
        return self._original.keys

    agents = _awaited(Session.agents)
    """Return every agent's record, by name."""

    tasks = _awaited(Session.tasks)
    """Return every task's record, by id."""

    dependencies = _awaited(Session.dependencies)
    """Return every dependency's record, by id."""

    claims = _awaited(Session.claims)
    """Return every claim on resources, held or waiting, by id."""

    barriers = _awaited(Session.barriers)
    """Return every barrier's record, by name."""

    escalations = _awaited(Session.escalations)
    """Return every question's record, open or decided, by id."""

    written = _awaited(Session.written)
    """Return what was written in copies of the files: path → its copies and agents."""

    exists = _awaited(Session.exists)
    """Return whether any signal of this session was ever accepted."""

    must_exist = _awaited(Session.must_exist)
    """Raise NotFoundError if no signal of this session was ever accepted."""

    log = _faced(Session.log, _iterate, "Generator[Entry, None, None]")
    """Yield log entries after an id, in order; with `follow` also new ones, through outages.

    Raises NotFoundError if the session is gone meanwhile.
    """

    synthesis = _awaited(Session.synthesis)
    """Return the synthesis as it is now, or as it was at a revision; revision 0 is empty.

    Raises NotFoundError if there is no such revision, or none yet.
    """

    revisions = _faced(Session.revisions, _iterate, "Generator[Revision, None, None]")
    """Yield the revisions of the synthesis after a number, in order.

    With `follow` also new ones, through outages, until one is final and none follows it; with
    `refined` until each refiner, too, is through with what is final. A session can continue after
    that: iterate again from there. Raises NotFoundError if somebody has trimmed a revision away, or
    the session is gone.
    """

    state_events = _faced(Session.state_events, _iterate, "Generator[Event, None, None]")
    """Yield the synthesis as state events of AG-UI: STATE_SNAPSHOT, then STATE_DELTA.

    Without `after` the present state comes first. With it, for a reader that has the state of that
    revision, only what has changed since; but a whole state again if the session has not come so
    far, because it began anew. Ends and raises as `revisions` does.
    """

    roster = _awaited(Session.roster)
    """Return the record of every agent that the run expects, by name."""

    until_final = _awaited(Session.until_final)
    """Wait, through outages, until all known agents have ended; return the final synthesis.

    With `refined` also until each refiner is through with it; one that fails, or has nothing to
    say, is. `timeout` is in seconds. Raises WaitTimeoutError, which names the agents that have not
    ended, or the refiners; NotFoundError if the session is gone.
    """

    describe_producers = _awaited(Session.describe_producers)
    """Say in a phrase which agents are to produce a dependency, and how they are doing."""


class SyncAgent(_Twin[Agent], AgentFacts):
    """A running agent: `with` sends STARTED, then COMPLETED, or FAILED on an exception.

    Signals are numbered within the incarnation that the server assigns at the start, so a signal
    that is sent again after a lost reply takes effect once. Every `timeout` is in seconds, and
    raises WaitTimeoutError, which says what the agent waited for, and for whom; all other times are
    in ms unless their names say otherwise.

    The methods that wait for something shared (`ready`, `checkpoint`, `writing`, `wait_for`,
    `escalate`, `integrating`) raise NotAllowedError if the orchestrator refuses them. A waiting
    agent counts as arrived at an integration; so these methods return, or raise what another agent
    caused, only when no such integration is under way. A timeout raises at once.
    """

    @property
    def session(self) -> SyncSession:
        """The session it works in, to look at."""
        return SyncSession(self._original.session, self._thread)

    def __enter__(self) -> SyncAgent:
        """Start a new incarnation: send STARTED, with what was declared.

        Raises NameTakenError if another living process has the name, unless the rules offer another
        name: then the agent has that one.
        """
        self._thread.run(self._original.__aenter__())
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """End the incarnation, unless `complete` or `fail` has already ended it."""
        self._thread.run(self._original.__aexit__(kind, error, trace))

    emit = _awaited(Agent.emit)
    """Send any signal; return its ingress id. Raises SignalError before anything is sent."""

    progress = _awaited(Agent.progress)
    """Report how far the work has come, in percent from 0 to 100.

    `expect_ms` announces a silence, as in `heartbeat`.
    """

    heartbeat = _awaited(Agent.heartbeat)
    """Say that the agent is alive; it also does so by itself while its event loop runs.

    `expect_ms` announces that nothing else will be heard for so long, during a build for example:
    until then the agent is not taken for dead or stuck. It holds until the agent's next signal of
    another kind. The rules bound it (`liveness.expect_ms_max`).
    """

    partial_result = _awaited(Agent.partial_result)
    """Hand over early findings: a document, or `{"findings": [{"key": …, "value": …}]}`.

    More findings than one signal takes are sent in several signals. With `all` the agent
    withdraws whatever it has said before and this leaves out.
    """

    finding = _awaited(Agent.finding)
    """Hand over one finding: `finding("a.py", 42, rule="sql-injection", severity="high")`.

    `severity` is critical, high, medium, low or info. `data` holds whatever else there is to
    say. Without a `key` it follows from path, line and rule.
    """

    add = _awaited(Agent.add)
    """`add(tests=3)` adds 3 to the total of that name, which all agents share."""

    ready = _awaited(Agent.ready)
    """Return when the start has been handled, and no integration under way holds the agent.

    An agent that starts during an integration is held until the integration is over. STARTED alone
    does not tell it: work that must not begin too early begins after this.
    """

    checkpoint = _awaited(Agent.checkpoint)
    """Report a safe place to pause, and pause there if an integration asks for it.

    Returns when the signal itself has come back, so that everything before it is known, and when
    the integration that meets the agent here is over. After a timeout the agent still counts as
    arrived.
    """

    writing = _faced(Agent.writing, _Block, "AbstractContextManager[Grant]")
    """Ask for paths, globs or named things, all or none: `with` waits for the grant.

    The end of the block releases all of them. The grant is the agent's: two of its tasks do not
    exclude each other, and what both use is released with the last. Raises DeadlockError if the
    agents would wait for each other forever; see Grant for what can be taken away.
    """

    integrating = _faced(Agent.integrating, _Block, "AbstractContextManager[None]")
    """Have all agents meet at a safe place: `with` waits until they have all arrived.

    The end of the block lets them go on. Raises BarrierError if the integration is cancelled or
    cannot be called. If the block raises, the others stay paused: enter it again under the same
    name to try again, or release them with `emit(SignalType.INTEGRATED, {"name": name})`; the end
    of the agent releases them too.
    """

    escalate = _awaited(Agent.escalate)
    """Ask a person, or the agent `to`; return the decision.

    `id` identifies the question; without one, the agent makes one up. If nobody has answered
    `deadline_ms` after the question was taken, `default` is the decision; without a default, this
    raises WaitTimeoutError. The question stays open after that, and after a timeout.
    """

    decide = _awaited(Agent.decide)
    """Answer a question that this agent was asked, by the `id` in the ESCALATE."""

    release = _awaited(Agent.release)
    """Release resources that another agent held and that `wait_for` has got."""

    resolve = _awaited(Agent.resolve)
    """Announce that an output is ready, and where it is.

    Agents that wait for it are told, and `consumers`, which need not wait for it.
    """

    wait_for = _awaited(Agent.wait_for)
    """Wait until an agent resolves a dependency; return its location, if it has one.

    For a question, wait for the decision and return it. For a resource that another agent holds,
    wait for the turn and return None; the agent then has it until `release` (`writing` releases by
    itself). Raises DependencyFailedError if all producers have failed, and DeadlockError if the
    agents would wait for each other forever. After an error, a timeout or a cancellation the wait
    is withdrawn.
    """

    def messages(self) -> Generator[Message, None, None]:
        """Yield what arrives for this agent, from where it last stopped.

        Never ends by itself; raises EndedError when the incarnation is over. A message counts as
        read when the next one is asked for. Messages that a crash left unread come again in the
        next incarnation, with the same ids. Signals that the same task sends meanwhile count as
        answers to the message, so that endless answers to answers are stopped.
        """
        for message in _iterate(self._original.messages(), self._thread):
            # Each call into the loop starts with the context of this thread.
            handled_hops.set(message.hops)
            try:
                yield message
            finally:
                handled_hops.set(0)

    rate_limited = _awaited(Agent.rate_limited)
    """Report that a quota is used up for so long, and wait until it is available again.

    All agents that have declared it (`quotas`) pause meanwhile, at their next checkpoint.
    """

    ahead = _awaited(Agent.ahead)
    """Report that the agent is ahead of time and has capacity (EARLY_COMPLETION)."""

    begin = _awaited(Agent.begin)
    """Take a task of the board, as a new STARTED does; return its fencing token.

    A task that the agent has not completed goes back to the board. Raises HeldError, which names
    the agent, if another has it; NotAllowedError if it is completed already, comes after another,
    or was begun too often.
    """

    next_task = _awaited(Agent.next_task)
    """Ask for a task, by the same rules as all others, and begin it; wait until there is one.

    After a timeout the agent is offered nothing more before it asks again.
    """

    done = _awaited(Agent.done)
    """Say that a task is complete, by default the one begun last; go on without one."""

    retry = _awaited(Agent.retry)
    """Have a completed or failed task done again."""

    add_tasks = _awaited(Agent.add_tasks)
    """Put tasks onto the board, at most 1,000: all of them, or none if one is refused."""

    complete = _awaited(Agent.complete)
    """End with the full result; return when the fabric has accepted it.

    With `all` the agent withdraws whatever it has said before and the result leaves out. After
    that the agent sends nothing more. Raises EndedError or NotAllowedError if the end is
    refused, and WaitTimeoutError if no orchestrator has decided it in `confirm_ms`.
    """

    fail = _awaited(Agent.fail)
    """End with an error. After that the agent sends nothing more."""


class SyncFabric(_Twin[Fabric], Connector):
    """A connection to the fabric, shared by any number of agents: `with SyncFabric.connect()`."""

    @classmethod
    def _over(cls, store: ClientStore, settings: Settings) -> Self:
        return cls(Fabric(store, settings))

    def __enter__(self) -> Self:
        """Connect; while the server cannot be reached, try again for `emit_limit_ms`."""
        self._started = LoopThread()
        try:
            self._started.run(self._original.__aenter__())
        except BaseException:
            self._started.close(self._original.__aexit__(None, None, None))
            raise
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Close all connections."""
        self._thread.close(self._original.__aexit__(kind, error, trace))

    session = _faced(Fabric.session, SyncSession, "SyncSession")
    """Return a session to look at; by default the one in the settings."""

    agent = _faced(Fabric.agent, SyncAgent, "SyncAgent")
    """Return an agent, to be entered with `with`. STARTED carries what is declared here.

    Name, session and stream default to those in the settings. `workspace` is the copy of the files
    that it works in, HOST:TOP; by default the worktree around the working directory, and "none" for
    none. `instance` identifies this living process, by default by its host and pid. A second one
    under the name of an agent at work is refused; with `take_over` it replaces the first. Nobody
    need say so after a crash on the same host. `resumes_from` names the checkpoint of the
    incarnation before that it goes on from: what was found by then stands.
    """

    expect = _awaited(Fabric.expect)
    """Say which agents belong to the run: it is not over before they have come and ended.

    After `deadline_ms` those that have not come are named, and nobody waits any longer. Call it
    before the agents start, and again to add others. `by` says so, and is no agent for that.
    """

    close_run = _awaited(Fabric.close_run)
    """End the run of a session; return the agents that were still at work, and were told.

    What comes later is refused. Raises NotFoundError if there is no such session, NotAllowedError
    if the run is closed already, WaitTimeoutError if no orchestrator has decided it in
    `confirm_ms`.
    """

    open_run = _awaited(Fabric.open_run)
    """Begin the next run of a session that was closed, or the first one; return its number.

    Nothing of the last run is in force. `expect` names the agents that belong to the run, as
    `expect()` does; in a run that is open they are added. Without any, NotAllowedError is raised
    then.
    """

    purge = _awaited(Fabric.purge)
    """Delete everything of a session, through the workers; return when it is gone.

    Raises NotFoundError if there is no such session, NotAllowedError while its run is open,
    WaitTimeoutError if it takes too long: the workers go on then.
    """

    export = _awaited(Fabric.export)
    """Write everything of a session to a file of JSON lines, as `fabric export` does.

    If its name ends in `.gz`, it is compressed. Raises NotFoundError if there is no such session.
    """

    same = _awaited(Fabric.same)
    """Say that the first of these keys of findings is the same thing as each other one.

    With `distinct`, that it is none of them. It goes before what agents and rules say. `by`
    says so, and is no agent for that.
    """

    renamed = _awaited(Fabric.renamed)
    """Say that a file or folder has another name: findings about it move with it."""

    emit = _awaited(Fabric.emit)
    """Send signals given as documents, in any spelling; return their ingress ids, in order.

    They carry sequence numbers only if the documents do. Without numbers a signal is never sent
    twice: after a lost reply, UnreachableError is raised. Session, emitter and stream default to
    those in the settings. Raises SignalError, before anything is sent, if one of the signals is not
    acceptable.
    """
