"""One agent: its process, the real client in it, and what the plan has it do."""

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

#: A message: its id, its cause and its type. After a failover others may have the same id.
Shown = tuple[bytes, bytes, bytes]


@dataclass
class Heard:
    """What one incarnation has read of its inbox and of the broadcast."""

    #: Where it began, and what it was shown since, id and cause: of the inbox, of the broadcast.
    began: tuple[bytes, bytes] = (BEGINNING, BEGINNING)
    shown: tuple[list[Shown], list[Shown]] = field(default_factory=lambda: ([], []))
    #: When it ended by its own word, s; 0 while it has not.
    ended_s: float = 0.0


class Actor:
    """What an agent's host keeps of it: the present process, what it does, what it has heard."""

    def __init__(self, name: str, session: str, settings: Settings) -> None:
        self.name = name
        self.session = session
        self.settings = settings
        self.node: Node | None = None
        self.lives: list[Heard] = []
        #: The line that it is busy with, and since when; None between two.
        self.doing: Line | None = None
        self.since_s = 0.0
        #: Grants that it believes to have.
        self.grants: list[Grant] = []
        #: What it went on to hold although it had read that it was taken away.
        self.kept: list[str] = []
        #: How often each verb has ended how.
        self.outcomes: dict[str, int] = {}
        self._lines: asyncio.Queue[Line] = asyncio.Queue()

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.node is not None and self.node.is_alive

    def start(self, node: Node, line: Line) -> None:
        """Begin a process: the agent starts, and does what it is given, until it ends."""
        self.node, self.doing = node, None
        self.grants.clear()
        self._lines = asyncio.Queue()
        self.lives.append(Heard())
        node.run(self._live(node, line, self.lives[-1]))

    def give(self, line: Line) -> None:
        """Have it do something, once it is done with what it was given before."""
        if self.is_alive:
            self._lines.put_nowait(line)

    async def _live(self, node: Node, start: Line, heard: Heard) -> None:
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

    async def _listen(self, agent: Agent, heard: Heard) -> None:
        #: Token → the message by which it was granted.
        granted: dict[int, str] = {}
        async for message in agent.messages():
            self._look_at_grants(message, granted)
            seen = message.id.encode(), message.cause.encode(), message.type.encode()
            heard.shown[int(message.to_everyone)].append(seen)

    def _look_at_grants(self, message: Message, granted: dict[int, str]) -> None:
        """What a message takes away is held no more, unless a later one has given it back."""
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
