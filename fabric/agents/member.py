"""One agent of a client, as the daemon speaks for it: what each event makes it do.

    session start    STARTED, and a briefing
    before a write   INTENT of exactly its files; the wait for the turn
    before a shell   a look at what git says, to compare with afterwards
    after a tool     messages; what was written without a claim becomes a signal
    end of a turn    claims are released, unless the turn is held
    session end      COMPLETED if the turn had ended and nothing is open; else FAILED

An agent that was declared dead, while its host was cut off for example, starts again with its next
event. Its files may have been given to others meanwhile: then the next write waits for its turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from fabric.agents.claim import Claims
from fabric.agents.decision import HOLDS_MAX, Facts
from fabric.agents.defer import is_only_call
from fabric.agents.edits import Edits, Writers, declare
from fabric.agents.event import WRITES, Action, Event, Moment
from fabric.agents.output import VENDORS
from fabric.agents.surroundings import briefing, obstacles
from fabric.agents.todo import TodoList
from fabric.agents.words import sentence
from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.client.grant import CONFLICT
from fabric.client.message import Message, strings
from fabric.core.directive import DirectiveType
from fabric.core.quota import PREFIX as QUOTA
from fabric.core.signal import SignalType
from fabric.devserver.path import Files, working_in
from fabric.errors import DeadlockError, EndedError, FabricError, WaitTimeoutError

logger = logging.getLogger("fabric.agentd")

#: A quota is used up for so long when the vendor does not say, ms.
QUOTA_MS = 60_000

#: Seconds for the end of the agent that had the name before.
PREVIOUS_S = 5.0

#: Seconds between two looks whether a turn has come, and for arriving at a barrier while idle.
LOOK_S = 0.25

#: Session and vendor → until when its quota is used up, as an agent of this host has reported, ms.
Limits = dict[tuple[str, str], float]

#: Directives that an idle client need not be woken for: its next write follows them by itself.
_QUIET = frozenset(
    {DirectiveType.PAUSE, DirectiveType.RESUME, DirectiveType.CANCEL, DirectiveType.NOTICE}
)


class Member:
    """One agent: started with its first event."""

    def __init__(
        self,
        fabric: Fabric,
        session: str,
        name: str,
        stream: str,
        harness: str,
        *,
        writers: Writers,
        limits: Limits,
    ) -> None:
        """`writers` and `limits` are shared by all agents of the host."""
        self.session, self.name, self.stream, self.harness = session, name, stream, harness
        self._fabric, self._limits = fabric, limits
        #: The client's process.
        self.pid = 0
        #: The end of the agent that had this name before, while that is being reported.
        self.previous: asyncio.Task[None] | None = None
        self._is_ended = False
        self._agent: Agent | None = None
        self._claims: Claims | None = None
        self._starting = asyncio.Lock()
        self._todos = TodoList(name)
        self._edits = Edits(name, writers)
        #: Its wait for the end of a barrier that has come while it was idle.
        self._arrival: asyncio.Task[None] | None = None
        #: Messages that the model has not been told of.
        self._untold: list[Message] = []
        self._holds = 0
        #: OpenCode asks for what its model is to know with each request.
        self._is_briefed = False
        #: The last turn ended in good order, and none has begun since.
        self.is_between_turns = False
        #: The process of `fabric run` that started it, and says how it ends; 0 if none did.
        self.run_pid = 0
        #: Whether that can resume the client at a write which has to wait.
        self.can_defer = False
        #: The call at which the client was told to end its run; "" if it was not.
        self.deferred = ""
        #: The client's id of the conversation, and the last thing that its user has said.
        self.conversation, self.prompt = "", ""
        #: Variables of the client's environment with which it is woken.
        self.variables: dict[str, str] = {}
        #: The living process that has the name; None for this daemon.
        self.instance: str | None = None
        self._folder = "/"

    async def agent(self) -> Agent:
        """Return the agent, started; a new incarnation if the last one is over.

        Raises EndedError if `end` was called: what still goes on then must not start it again.
        """
        if self.previous is not None:
            await asyncio.wait({self.previous}, timeout=PREVIOUS_S)
            self.previous = None
        async with self._starting:
            if self._is_ended:
                raise EndedError(f"{self.name}: its client has ended")
            if self._agent is not None and self._agent.is_over:
                await self.leave()
            if self._agent is None:
                vendor = VENDORS.get(self.harness)
                agent = self._fabric.agent(
                    self.name,
                    session=self.session,
                    stream=self.stream,
                    quotas=[vendor] if vendor else (),
                    instance=self.instance,
                )
                await agent.__aenter__()
                self._agent, self._claims = agent, Claims(agent, self._fabric.store)
            return self._agent

    async def facts(self, event: Event, wait_s: float) -> Facts:
        """Do what an event asks for; return what was found out. Raises ServerError."""
        self._folder = event.cwd
        with working_in(event.cwd) as files:
            try:
                return await self._facts(event, files, wait_s)
            except EndedError:  # declared dead, or ended elsewhere: it lives, so it starts again
                await self.leave()
                return await self._facts(event, files, wait_s)

    async def _facts(self, event: Event, files: Files, wait_s: float) -> Facts:
        agent = await self.agent()
        agent_facts = Facts(agent=self.name, session=self.session)
        if event.moment in (Moment.TURN_START, Moment.TURN_END) or event.tool_id == self.deferred:
            self.deferred = ""
        if event.moment is Moment.BEFORE_TOOL:
            self.is_between_turns = False
            agent_facts = await self._before_tool(agent, event, files, wait_s, agent_facts)
        elif event.moment is Moment.AFTER_TOOL:
            agent_facts = await self._after_tool(agent, event, files, agent_facts)
        elif event.moment in (Moment.SESSION_START, Moment.SUBAGENT_START):
            if event.takes_context and not self._is_briefed:
                self._is_briefed = event.is_lasting
                agent_facts = replace(agent_facts, news=await briefing(agent))
        elif event.moment is Moment.TURN_START:
            self._holds, self.is_between_turns = 0, False
            self.prompt = event.prompt
        elif event.moment in (Moment.TURN_END, Moment.SUBAGENT_END):
            agent_facts = await self._end_turn(agent, event, wait_s, agent_facts)
        elif event.moment is Moment.TURN_FAILED:
            await self._fail_turn(agent, event)
        if event.takes_context and event.is_lasting:
            said = self._tell(await agent.take_messages())
            agent_facts = replace(agent_facts, news=agent_facts.news + said)
        return agent_facts

    def _tell(self, messages: Iterable[Message]) -> tuple[str, ...]:
        """Return what the model should know of all messages that it has not been told of."""
        untold, self._untold = [*self._untold, *messages], []
        return tuple(filter(None, map(sentence, filter(self._concerns, untold))))

    def _concerns(self, message: Message) -> bool:
        """Whether the model should know of a message: the hooks deal with claims by themselves."""
        named = strings(message.payload.get("resources"))
        if message.sender == self.name or (named and message.type == DirectiveType.CANCEL):
            return False
        if message.type == DirectiveType.PAUSE and message.payload.get("reason") == CONFLICT:
            return self._claims is not None and not self._claims.held.isdisjoint(named)
        return True

    async def _before_tool(
        self, agent: Agent, event: Event, files: Files, wait_s: float, facts: Facts
    ) -> Facts:
        if event.action is Action.SHELL:
            await self._edits.before_command(_call(event), files)
        if not event.is_write and event.action is not Action.SHELL:
            return facts
        began = time.monotonic()
        if agent.paused_by:
            pause = await self._pause(agent, wait_s)
            if pause and _is_integration(agent.paused_by):
                facts = replace(facts, pause=pause, waited_s=time.monotonic() - began)
                return replace(facts, is_deferred=self._defers(event))
        if not event.is_write:
            return facts
        if agent.cancelled:
            return replace(facts, stop=agent.cancelled)
        names = list(dict.fromkeys(map(files.file, event.paths)))
        assert self._claims is not None
        left_s = wait_s - (time.monotonic() - began)
        try:
            missing = await self._claims.obtain(names, _call(event), left_s)
        except DeadlockError as error:
            return replace(facts, deadlock=str(error))
        waited_s = time.monotonic() - began
        if missing:
            if agent.paused_by and (why := await self._pause(agent, 0)):
                facts = replace(facts, pause=why, waited_s=waited_s)
                return replace(facts, is_deferred=self._defers(event))
            found = await obstacles(agent, self._fabric.store, missing)
            facts = replace(facts, obstacles=found, waited_s=waited_s)
            return replace(facts, is_deferred=self._defers(event))
        if event.action is Action.OVERWRITE:
            stale = self._edits.stale(files, event.paths, has_waited=waited_s > 1)
            facts = replace(facts, changed=stale)
        return facts

    def _defers(self, event: Event) -> bool:
        """Whether the client ends its run here; one call at a time can be resumed."""
        can = self.can_defer and event.is_write and not self.deferred
        if can and is_only_call(event.transcript, event.tool_id):
            self.deferred = event.tool_id
        return self.deferred == event.tool_id != ""

    async def turn(self) -> None:
        """Return when what a deferred call has waited for is over, one way or the other."""
        with suppress(EndedError):
            while (agent := self._agent) is not None and not agent.is_over:
                is_waiting = self._claims is not None and self._claims.is_waiting
                if not is_waiting and not _is_integration(agent.paused_by):
                    break
                await asyncio.sleep(LOOK_S)

    async def waking_news(self) -> tuple[str, ...]:
        """Return what an idle client is to be woken with; () if nobody wants anything of it.

        What came to everyone wakes nobody: a fleet would begin as many turns. It is told with the
        next turn.
        """
        if self._agent is None or self._agent.is_over or not self.is_between_turns:
            return ()
        self._untold += await self._agent.take_messages()
        wakes = any(
            not one.to_everyone and one.type not in _QUIET and self._concerns(one) and sentence(one)
            for one in self._untold
        )
        return self._tell(()) if wakes else ()

    async def _pause(self, agent: Agent, wait_s: float) -> str:
        """Arrive at the barrier in force, and wait for its end; return why it is not over."""
        try:
            await agent.ready(timeout=wait_s)
        except WaitTimeoutError as error:
            return str(error)
        return ""

    async def _after_tool(self, agent: Agent, event: Event, files: Files, facts: Facts) -> Facts:
        assert self._claims is not None
        self._claims.used(_call(event))
        self._edits.note(event, files)
        if event.action is Action.TODO and event.todos:
            await self._todos.update(agent, event.todos, is_whole=event.is_whole_list)
        if event.action is Action.SHELL:
            paths = await self._edits.after_command(_call(event), files)
            news = await declare(agent, self._claims, files, paths)
            facts = replace(facts, news=facts.news + news)
        return facts

    async def _end_turn(self, agent: Agent, event: Event, wait_s: float, facts: Facts) -> Facts:
        assert self._claims is not None
        reasons = []
        # A turn's end is a safe place to stop at.
        if _is_integration(agent.paused_by) and (why := await self._pause(agent, wait_s)):
            reasons.append(f"An integration is under way: {why}. Wait for its end.")
        questions = await agent.session.escalations()
        reasons += [
            f"{one.asker} asks you: “{one.question}” Answer with `fabric decide {known} ANSWER`."
            for known, one in questions.items()
            if one.is_open and one.to == self.name
        ]
        is_held = bool(reasons) and self._holds < HOLDS_MAX and not event.error
        facts = replace(facts, open=tuple(reasons), holds=self._holds)
        if is_held:
            self._holds += 1
        else:
            self._claims.release()
            self.is_between_turns = True
        return facts

    async def _fail_turn(self, agent: Agent, event: Event) -> None:
        assert self._claims is not None
        self._claims.release()
        now_ms = time.time() * 1000
        if event.quota and self._limits.get((self.session, event.quota), 0) <= now_ms:
            # Before the look: of all that meet it at once, one reports it.
            self._limits[self.session, event.quota] = now_ms + QUOTA_MS
            known = (await agent.session.dependencies()).get(QUOTA + event.quota)
            if known is None or known.until_ms <= now_ms:
                reason = f"{event.harness}: {event.error}"[:200]
                payload = {"on": QUOTA + event.quota, "for_ms": QUOTA_MS, "reason": reason}
                await agent.emit(SignalType.BLOCKED, payload)
        self.is_between_turns = True

    async def tick(self) -> None:
        """Release what was not used for long; if idle, arrive at a barrier. Raises ServerError."""
        agent, claims = self._agent, self._claims
        if agent is None or claims is None:
            return
        with working_in(self._folder), suppress(EndedError):
            await claims.release_idle()
        # Between two turns it is at a safe place, and its person may be away for hours.
        is_arriving = self._arrival is not None and not self._arrival.done()
        if self.is_between_turns and _is_integration(agent.paused_by) and not is_arriving:
            self._arrival = asyncio.create_task(self._arrive(agent))

    async def _arrive(self, agent: Agent) -> None:
        with suppress(FabricError):
            await agent.ready()

    async def late(self, event: Event) -> None:
        """Do what is left to do of an event that could not be handled when it came."""
        self._folder = event.cwd
        with working_in(event.cwd) as files:
            agent = await self.agent()
            assert self._claims is not None
            if event.moment is Moment.AFTER_TOOL and event.action in WRITES:
                await declare(agent, self._claims, files, event.paths)
            elif event.moment is Moment.AFTER_TOOL:
                await self._todos.update(agent, event.todos, is_whole=event.is_whole_list)
            elif event.moment is Moment.TURN_FAILED:
                await self._fail_turn(agent, event)

    async def release(self) -> None:
        """Release everything that it holds."""
        if self._claims is not None:
            self._claims.release()
            await self._claims.released()

    async def end(self, reason: str) -> None:
        """End the agent: COMPLETED if its turn had ended and nothing is open, else FAILED."""
        self._is_ended = True
        async with self._starting:
            agent = self._agent
        if agent is None or agent.is_over:
            await self.leave()
            return
        try:
            await self.release()
            if self.run_pid:
                return
            record = (await agent.session.agents()).get(self.name)
            # Without a record its start was not decided yet: it has promised nothing.
            is_open = record and (record.produces or record.task or record.waits_for)
            if self.is_between_turns and not is_open:
                await agent.complete()
            else:
                await agent.fail(reason, retryable=True)
        finally:
            await self.leave()

    async def leave(self) -> None:
        """Let go of this incarnation without a word."""
        agent, self._agent, self._claims = self._agent, None, None
        if self._arrival is not None:
            self._arrival.cancel()
        if agent is not None:
            with suppress(FabricError):
                await agent.leave()


def _is_integration(paused_by: str | None) -> bool:
    """Whether an agent is paused by a barrier, and not by a quota."""
    return paused_by is not None and not paused_by.startswith(QUOTA)


def _call(event: Event) -> str:
    """Return what tells one call of a tool from another; Gemini numbers none."""
    return event.tool_id or f"{event.tool} {event.paths}"
