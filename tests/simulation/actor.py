"""One agent: its process, the real client in it, and its part of the plan."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.client.grant import CONFLICT, Grant
from fabric.client.message import Message
from fabric.config.settings import Settings
from fabric.core.directive import DirectiveType
from fabric.errors import FabricError
from fabric.store.port import BEGINNING
from tests.simulation.node import Node
from tests.simulation.plan import Line
from tests.simulation.verbs import VERBS

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


class Actor:
    """An agent: its current process, what it does, and what it has received."""

    def __init__(self, name: str, session: str, settings: Settings) -> None:
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
        #: Grants that it kept although it had read that they were taken away.
        self.kept: list[str] = []
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
        options = start.named()
        produces = [part for part in options.get("produces", "").split(",") if part]
        self._begin(node, start)
        try:
            async with Fabric(node.store, self.settings) as fabric:
                agent = fabric.agent(
                    self.name,
                    session=self.session,
                    stream=options.get("stream", ""),
                    priority=int(options.get("priority", "0")),
                    task=options.get("task"),
                    task_type=options.get("type", "").replace("_", " ") or None,
                    parallel_group=options.get("group"),
                    produces=produces,
                )
                async with agent:
                    heard.began = (agent._mailbox._place[0], agent._mailbox._place[1])
                    listening = asyncio.create_task(self._listen(agent, heard))
                    try:
                        await self._work(node, agent)
                        heard.ended_s = node.loop.time()
                    finally:
                        listening.cancel()
                        await asyncio.gather(listening, return_exceptions=True)
        except FabricError as error:
            self._count(f"life {error.code}")
        finally:
            self.doing = None

    async def _listen(self, agent: Agent, heard: Received) -> None:
        #: Token → the message that granted it.
        granted: dict[int, str] = {}
        async for message in agent.messages():
            self._look_at_grants(message, granted)
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
                self.kept.append(f"{self.name}: token {grant.token} after {message.id}")

    async def _work(self, node: Node, agent: Agent) -> None:
        while True:
            self.doing = None
            line = await self._lines.get()
            self._begin(node, line)
            try:
                await VERBS[line.verb](self, agent, line)
            except FabricError as error:
                self._count(f"{line.verb} {error.code}")
            else:
                self._count(line.verb)
            if line.verb in ("complete", "fail"):
                return

    def _begin(self, node: Node, line: Line) -> None:
        self.doing, self.since_s = line, node.loop.time()

    def _count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
