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
from pathlib import Path

from fabric.agents.claim import Claims
from fabric.agents.decision import HOLDS_MAX, Facts, Obstacle
from fabric.agents.event import WRITES, Action, Event, Moment
from fabric.agents.todo import TodoList
from fabric.agents.words import sentence
from fabric.agents.worktree import Mark, Snapshot, changed, mark, snapshot
from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.client.grant import CONFLICT
from fabric.client.message import Message, strings
from fabric.client.session import read_record
from fabric.core.directive import DirectiveType
from fabric.core.order import Order
from fabric.core.quota import PREFIX as QUOTA
from fabric.core.record import ENDED, AgentRecord, ClaimRecord, ClaimState
from fabric.core.resource import Index
from fabric.core.signal import SignalType
from fabric.devserver.path import Files, working_in
from fabric.errors import DeadlockError, EndedError, FabricError, WaitTimeoutError

logger = logging.getLogger("fabric.agentd")

#: A quota is used up for so long when the vendor does not say, ms.
QUOTA_MS = 60_000

#: Seconds for the end of the agent that had the name before.
PREVIOUS_S = 5.0

#: Agents, and files of each, in a briefing.
BRIEF_AGENTS_MAX = 8
BRIEF_FILES_MAX = 4

#: The vendor whose limits a harness shares.
VENDORS = {"claude": "anthropic", "codex": "openai", "gemini": "google"}

#: Name of a file from the top of its worktree, or a path outside; what another agent did with it.
Writers = dict[tuple[str, str], tuple[str, float]]


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
    ) -> None:
        """`writers` is shared by all agents of the host."""
        self.session, self.name, self.stream, self.harness = session, name, stream, harness
        self._fabric, self._writers = fabric, writers
        #: The client's process.
        self.pid = 0
        #: The end of the agent that had this name before, while that is being reported.
        self.previous: asyncio.Task[None] | None = None
        self._is_ended = False
        self._agent: Agent | None = None
        self._claims: Claims | None = None
        self._starting = asyncio.Lock()
        self._todos = TodoList(name)
        #: What this agent has last seen of each file.
        self._seen: dict[str, Mark] = {}
        self._before: dict[str, tuple[Snapshot, float]] = {}
        self._holds = 0
        #: OpenCode asks for what its model is to know with each request.
        self._is_briefed = False
        #: The last turn ended in good order, and none has begun since.
        self.is_between_turns = False
        #: `fabric run` started it, and says how it ends.
        self.is_run = False
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
        if event.moment is Moment.BEFORE_TOOL:
            self.is_between_turns = False
            agent_facts = await self._before_tool(agent, event, files, wait_s, agent_facts)
        elif event.moment is Moment.AFTER_TOOL:
            agent_facts = await self._after_tool(agent, event, files, agent_facts)
        elif event.moment in (Moment.SESSION_START, Moment.SUBAGENT_START):
            if event.takes_context and not self._is_briefed:
                self._is_briefed = event.is_lasting
                agent_facts = _with(agent_facts, news=await self._briefing(agent))
        elif event.moment is Moment.TURN_START:
            self._holds, self.is_between_turns = 0, False
        elif event.moment in (Moment.TURN_END, Moment.SUBAGENT_END):
            agent_facts = await self._end_turn(agent, event, wait_s, agent_facts)
        elif event.moment is Moment.TURN_FAILED:
            await self._fail_turn(agent, event)
        if event.takes_context and event.is_lasting:
            messages = await agent.take_messages()
            said = tuple(filter(None, map(sentence, filter(self._concerns, messages))))
            agent_facts = _with(agent_facts, news=agent_facts.news + said)
        return agent_facts

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
            taken = await snapshot(files.top)
            if taken is not None:
                self._before[event.tool_id] = taken, time.time()
        if not event.is_write and event.action is not Action.SHELL:
            return facts
        began = time.monotonic()
        if agent.paused_by:
            pause = await self._pause(agent, wait_s)
            if pause and not (agent.paused_by or "").startswith(QUOTA):
                return _with(facts, pause=pause, waited_s=time.monotonic() - began)
        if not event.is_write:
            return facts
        if agent.cancelled:
            return _with(facts, stop=agent.cancelled)
        names = list(dict.fromkeys(map(files.file, event.paths)))
        assert self._claims is not None
        left_s = wait_s - (time.monotonic() - began)
        try:
            missing = await self._claims.obtain(names, _call(event), left_s)
        except DeadlockError as error:
            return _with(facts, deadlock=str(error))
        waited_s = time.monotonic() - began
        if missing:
            if agent.paused_by and (why := await self._pause(agent, 0)):
                return _with(facts, pause=why, waited_s=waited_s)
            found = await self._obstacles(agent, missing)
            return _with(facts, obstacles=found, waited_s=waited_s)
        if event.action is Action.OVERWRITE:
            stale = self._stale(files, event.paths, has_waited=waited_s > 1)
            facts = _with(facts, changed=stale)
        return facts

    async def _pause(self, agent: Agent, wait_s: float) -> str:
        """Arrive at the barrier in force, and wait for its end; return why it is not over."""
        try:
            await agent.ready(timeout=wait_s)
        except WaitTimeoutError as error:
            return str(error)
        return ""

    async def _obstacles(self, agent: Agent, missing: Iterable[str]) -> tuple[Obstacle, ...]:
        """Say who has what this agent waits for."""
        claims = await agent.session.claims()
        order, now_ms = Order(claims), time.time() * 1000
        found = []
        for name in sorted(missing):
            mine = next(
                (
                    one
                    for one in claims.values()
                    if one.agent == self.name
                    and one.state is ClaimState.WAITING
                    and name in one.writes
                ),
                None,
            )
            if mine is None:
                continue
            ahead = [place for place in order.ahead(mine) if place.agent != self.name]
            holders = {one.id: one for one in order.blockers(mine)}
            for holder in holders.values() or ():
                if not _overlaps(name, holder):
                    continue
                held_s = max(0.0, (now_ms - holder.granted_ms) / 1000)
                host = await self._host_of(agent, holder.agent)
                waiting = len({place.id for place in ahead})
                found.append(Obstacle(name, holder.agent, host, held_s, waiting))
                break
            else:
                holder_name = ahead[0].agent if ahead else "an integration"
                found.append(Obstacle(name, holder_name, ahead=len(ahead)))
        return tuple(found) or (Obstacle(", ".join(sorted(missing)), "another agent"),)

    async def _host_of(self, agent: Agent, other: str) -> str:
        """Return the host of an agent: of its files, or of its process; "" if it said neither."""
        keys = agent.session.keys
        record = await read_record(self._fabric.store, keys.agents, other, AgentRecord)
        if record is None:
            return ""
        return record.workspace.partition(":")[0] or record.instance.partition("/")[0]

    def _stale(
        self, files: Files, paths: Iterable[str], *, has_waited: bool
    ) -> tuple[tuple[str, str], ...]:
        """Return the files that are not what this agent has seen of them last.

        A whole file is written over whatever is in it: an edit made meanwhile would be lost.
        """
        found = []
        for path in paths:
            now, name = mark(path), files.file(path)
            writer, _ = self._writers.get((files.top, name), ("", 0.0))
            if path in self._seen:
                is_stale = now != self._seen[path]
            else:
                is_stale = has_waited and now is not None and writer not in ("", self.name)
            if is_stale and now is not None:
                found.append((name, writer if writer != self.name else ""))
        return tuple(found)

    async def _after_tool(self, agent: Agent, event: Event, files: Files, facts: Facts) -> Facts:
        assert self._claims is not None
        self._claims.used(_call(event))
        now = time.time()
        for path in event.paths:
            self._seen[path] = mark(path)
            if event.action in WRITES:
                self._writers[files.top, files.file(path)] = self.name, now
        if event.action is Action.TODO and event.todos:
            await self._todos.update(agent, event.todos, is_whole=event.is_whole_list)
        if event.action is Action.SHELL:
            before = self._before.pop(event.tool_id, None)
            after = await snapshot(files.top) if before else None
            if before and after is not None:
                names = changed(files.top, before[0], after)
                mine = [one for one in names if not self._is_of_other(files.top, one, before[1])]
                for name in mine:
                    self._seen[str(Path(files.top, name))] = after.get(name)
                news = await self.declare(agent, files, [str(Path(files.top, one)) for one in mine])
                facts = _with(facts, news=facts.news + news)
        return facts

    def _is_of_other(self, top: str, name: str, since: float) -> bool:
        """Whether another agent of this host has written a file, as its own, since a time."""
        writer, at = self._writers.get((top, name), ("", 0.0))
        return writer not in ("", self.name) and at >= since

    async def declare(self, agent: Agent, files: Files, paths: Iterable[str]) -> tuple[str, ...]:
        """Make files that were written without a claim known; return what the model should know.

        What nobody has becomes an INTENT; what another agent has, a conflict.
        """
        assert self._claims is not None
        names = [files.file(path) for path in paths]
        unclaimed = [name for name in dict.fromkeys(names) if name not in self._claims.held]
        if not unclaimed:
            return ()
        claims = await agent.session.claims()
        held = Index()
        holders: dict[str, str] = {}
        for claim in claims.values():
            if claim.state is ClaimState.HELD and claim.agent != self.name:
                for resource in claim.writes:
                    held.add(resource)
                    holders[resource] = claim.agent
        news, free = [], []
        for name in unclaimed:
            others = sorted({holders[one] for one in held.overlapping(name)})
            if not others:
                free.append(name)
                continue
            await agent.emit(
                SignalType.CONFLICT_DETECTED,
                {"resources": [name], "agents": [self.name, *others], "kind": "undeclared_write"},
            )
            news.append(
                f"Your command changed {name}, which {', '.join(others)} holds: the conflict was "
                "reported. Do not change it further before it is yours."
            )
        if free:
            with suppress(DeadlockError):
                await self._claims.obtain(free, f"declared {free[0]}", 0.5)
        return tuple(news)

    async def _end_turn(self, agent: Agent, event: Event, wait_s: float, facts: Facts) -> Facts:
        assert self._claims is not None
        reasons = []
        is_integration = agent.paused_by and not agent.paused_by.startswith(QUOTA)
        # A turn's end is a safe place to stop at.
        if is_integration and (why := await self._pause(agent, wait_s)):
            reasons.append(f"An integration is under way: {why}. Wait for its end.")
        questions = await agent.session.escalations()
        reasons += [
            f"{one.asker} asks you: “{one.question}” Answer with `fabric decide {known} ANSWER`."
            for known, one in questions.items()
            if one.is_open and one.to == self.name
        ]
        is_held = bool(reasons) and self._holds < HOLDS_MAX and not event.error
        facts = _with(facts, open=tuple(reasons), holds=self._holds)
        if is_held:
            self._holds += 1
        else:
            self._claims.release()
            self.is_between_turns = True
        return facts

    async def _fail_turn(self, agent: Agent, event: Event) -> None:
        assert self._claims is not None
        self._claims.release()
        if event.quota:
            known = (await agent.session.dependencies()).get(QUOTA + event.quota)
            if known is None or known.until_ms <= time.time() * 1000:
                reason = f"{event.harness}: {event.error}"[:200]
                payload = {"on": QUOTA + event.quota, "for_ms": QUOTA_MS, "reason": reason}
                await agent.emit(SignalType.BLOCKED, payload)
        self.is_between_turns = True

    async def _briefing(self, agent: Agent) -> tuple[str, ...]:
        """Say who works on what, what is held, and what waits for this agent."""
        agents, claims = await agent.session.agents(), await agent.session.claims()
        held: dict[str, list[str]] = {}
        for claim in claims.values():
            if claim.state is ClaimState.HELD and claim.agent != self.name:
                held.setdefault(claim.agent, []).extend(claim.writes)
        others = [n for n, one in agents.items() if one.status not in ENDED and n != self.name]
        lines = [
            "Before you write a file it is claimed for you, and released when your turn ends. If "
            "another agent has it, the write waits, and then is refused with the holder's name."
        ]
        for name in sorted(others)[:BRIEF_AGENTS_MAX]:
            one, files = agents[name], held.get(name, [])
            task = f" on {one.task}" if one.task else ""
            has = f", has {', '.join(files[:BRIEF_FILES_MAX])}" if files else ""
            lines.append(f"{name} is {one.status.value}{task}{has}")
        if len(others) > BRIEF_AGENTS_MAX:
            lines.append(f"{len(others) - BRIEF_AGENTS_MAX} more agents: `fabric status`")
        return tuple(lines)

    async def release_idle(self) -> None:
        """Release what was not used for long. Raises ServerError."""
        if self._claims is not None:
            with working_in(self._folder), suppress(EndedError):
                await self._claims.release_idle()

    async def late(self, event: Event) -> None:
        """Do what is left to do of an event that could not be handled when it came."""
        self._folder = event.cwd
        with working_in(event.cwd) as files:
            agent = await self.agent()
            if event.moment is Moment.AFTER_TOOL and event.action in WRITES:
                await self.declare(agent, files, event.paths)
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
            if self.is_run:
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
        if agent is not None:
            with suppress(FabricError):
                await agent.leave()


def _with(facts: Facts, **changes: object) -> Facts:
    return Facts(**{**facts.__dict__, **changes})


def _call(event: Event) -> str:
    """Return what tells one call of a tool from another; Gemini numbers none."""
    return event.tool_id or f"{event.tool} {event.paths}"


def _overlaps(name: str, claim: ClaimRecord) -> bool:
    index = Index()
    for resource in claim.writes:
        index.add(resource)
    return bool(list(index.overlapping(name)))
