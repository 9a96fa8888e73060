"""One agent: its process, the real client in it, and its part of the plan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.client.grant import CONFLICT, Grant
from fabric.client.message import Message
from fabric.config.settings import Settings
from fabric.core.directive import DirectiveType
from fabric.errors import EndedError, FabricError
from fabric.store.port import BEGINNING
from tests.simulation.node import Node
from tests.simulation.plan import Line
from tests.simulation.verbs import VERBS

#: Codes of the CANCEL or NOTICE that tells an incarnation that it is over.
OVER = ("DEAD", "REPLACED", "ENDED", "STALE_INCARNATION")

#: Incarnations that one process lives after it was told that the one before is over.
INCARNATIONS_MAX = 5

#: How long ago a grant that is just believed in may have ended, s: the looks at it take time.
GRANT_S_MAX = 20.0

#: A message: its id, cause and type. After a failover another message may have the same id.
Shown = tuple[bytes, bytes, bytes]


@dataclass
class Received:
    """What one incarnation has read from its inbox and from the broadcast stream."""

    #: Where it began to read, and the messages since: of the inbox, of the broadcast stream.
    began: tuple[bytes, bytes] = (BEGINNING, BEGINNING)
    shown: tuple[list[Shown], list[Shown]] = field(default_factory=lambda: ([], []))
    #: When it ended by its own signal, s; 0 while it has not.
    ended_s: float = 0.0
    #: Whether it has read that it is over, though its process lives.
    is_over: bool = False


class Actor:
    """An agent: its current process, what it does, and what it has received."""

    def __init__(
        self, name: str, session: str, settings: Settings, over_s: Callable[[str, int], float]
    ) -> None:
        """`over_s` says how long ago a grant of a session, by its token, was taken away."""
        self.over_s = over_s
        self.name = name
        self.session = session
        self.settings = settings
        self.node: Node | None = None
        self.lives: list[Received] = []
        #: The line that it is executing, and since when; None between two lines.
        self.doing: Line | None = None
        self.since_s = 0.0
        #: Grants that it believes it has.
        self.grants: list[Grant] = []
        #: What its library has done wrong: invariant and detail.
        self.wrong: list[tuple[str, str]] = []
        #: Incarnations whose COMPLETED has returned without an error.
        self.completed: list[int] = []
        #: How often each verb has ended in each way.
        self.outcomes: dict[str, int] = {}
        self._lines: asyncio.Queue[Line] = asyncio.Queue()

    @property
    def is_alive(self) -> bool:
        """Return whether its process runs."""
        return self.node is not None and self.node.is_alive

    def start(self, node: Node, line: Line) -> None:
        """Start a process: the agent starts, and executes its lines until it ends."""
        self.node, self.doing = node, None
        self.grants.clear()
        self._lines = asyncio.Queue()
        self.lives.append(Received())
        node.run(self._live(node, line, self.lives[-1]))

    def give(self, line: Line) -> None:
        """Give it a line to execute after those that it has."""
        if self.is_alive:
            self._lines.put_nowait(line)

    async def _live(self, node: Node, start: Line, heard: Received) -> None:
        self._begin(node, start)
        try:
            async with Fabric(node.store, self.settings) as fabric:
                for _ in range(INCARNATIONS_MAX):
                    if not await self._incarnate(node, fabric, start, heard):
                        break
                    # It was told that it is over, and begins anew, as a supervisor would have it.
                    self._begin(node, start)
                    heard = Received()
                    self.lives.append(heard)
        except FabricError as error:
            self._count(f"life {error.code}")
        finally:
            self.doing = None

    async def _incarnate(self, node: Node, fabric: Fabric, start: Line, heard: Received) -> bool:
        """Live one incarnation; return whether its work is to go on in another one."""
        options = start.named()
        agent = fabric.agent(
            self.name,
            session=self.session,
            stream=options.get("stream", ""),
            priority=int(options.get("priority", "0")),
            task=options.get("task"),
            task_type=options.get("type", "").replace("_", " ") or None,
            parallel_group=options.get("group"),
            produces=[part for part in options.get("produces", "").split(",") if part],
            quotas=[part for part in options.get("quotas", "").split(",") if part],
            workspace=options.get("copy", "none"),
            instance=f"{self.name}/{len(self.lives)}",
            # Its host knows that the process before it is gone.
            take_over=True,
        )
        try:
            async with agent:
                heard.began = (agent._mailbox._place[0], agent._mailbox._place[1])
                # One that is deaf takes no messages, as a program that never looks.
                hears = self._listen(agent, heard) if "deaf" not in options else asyncio.sleep(0)
                listening = asyncio.create_task(hears)
                try:
                    await self._work(node, agent, heard)
                    heard.ended_s = node.loop.time()
                finally:
                    listening.cancel()
                    await asyncio.gather(listening, return_exceptions=True)
        except EndedError as error:
            self._count(f"life {error.code}")
            return self.doing is None or self.doing.verb not in ("complete", "fail")
        return False

    async def _listen(self, agent: Agent, heard: Received) -> None:
        #: Token → the message that granted it.
        granted: dict[int, str] = {}
        async for message in agent.messages():
            self._look_at_grants(message, granted)
            self._look_at_end(message, agent, heard)
            seen = message.id.encode(), message.cause.encode(), message.type.encode()
            heard.shown[int(message.to_everyone)].append(seen)

    def _look_at_grants(self, message: Message, granted: dict[int, str]) -> None:
        """Drop grants that a message takes away, unless a later message grants them again."""
        payload = message.payload
        if message.type == DirectiveType.PROCEED and payload.get("token"):
            granted[payload["token"]] = message.id
        if message.type != DirectiveType.PAUSE or payload["reason"] == CONFLICT:
            return
        for grant in self.grants:
            is_named = not set(grant.resources).isdisjoint(payload.get("resources", ()))
            if grant.is_current and is_named and grant.token in granted:
                detail = f"{self.name}: token {grant.token} after {message.id}"
                self.wrong.append(("what was taken away is held no more", detail))

    def _look_at_end(self, message: Message, agent: Agent, heard: Received) -> None:
        """Note that the incarnation is over; then its library believes in no grant any more."""
        payload = message.payload
        if payload.get("code") in OVER and payload.get("incarnation") == agent.incarnation:
            heard.is_over = True
            kept = [grant.token for grant in self.grants if grant.is_current]
            if kept:
                detail = f"{self.name}: tokens {kept} after {message.id}"
                self.wrong.append(("who is over holds nothing", detail))

    async def _work(self, node: Node, agent: Agent, heard: Received) -> None:
        while True:
            self.doing = None
            line = await self._lines.get()
            self._begin(node, line)
            was_over, outcome = heard.is_over, line.verb
            try:
                await VERBS[line.verb](self, agent, line)
            except EndedError as error:
                self._count(f"{line.verb} {error.code}")
                raise
            except FabricError as error:
                outcome = f"{line.verb} {error.code}"
            self._count(outcome)
            if was_over and line.verb != "idle":
                self.wrong.append(("who is over sends nothing more", f"{self.name}: {outcome}"))
            if outcome == "complete":
                self.completed.append(agent.incarnation)
            if line.verb in ("complete", "fail"):
                return

    def enter(self, grant: Grant) -> None:
        """Begin to write: the grant was in force a moment ago."""
        self.grants.append(grant)
        late_s = self.over_s(self.session, grant.token)
        if late_s > GRANT_S_MAX:
            detail = f"{self.name}: token {grant.token} was over {late_s:.0f} s before"
            self.wrong.append(("who begins to write has the grant", detail))

    def _begin(self, node: Node, line: Line) -> None:
        self.doing, self.since_s = line, node.loop.time()

    def _count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
