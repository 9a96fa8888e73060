"""One turn of a team's agent: a random verb of the library, recorded before and after."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from fabric.client.agent import Agent
from fabric.errors import BarrierError, DeadlockError, WaitTimeoutError
from tests.chaos.journal import Journal
from tests.chaos.roster import OUTPUTS_AHEAD, TEAM_AGENTS, Member, output, output_now

#: Paths that agents write: few, so that they conflict.
PATHS = ("src/a.py", "src/b.py", "docs/c.md", "src/**", "schema")
#: Longest time that a claim is held, and that an integration takes, s.
HOLD_S_MAX = 0.08
#: The leader of a team calls an integration once in this many turns.
INTEGRATION_TURNS = 40


class Turns:
    """The turns of one incarnation. `made`: number of the last output."""

    def __init__(
        self, agent: Agent, member: Member, journal: Journal, chance: random.Random, made: int
    ) -> None:
        self.made = made
        self._agent = agent
        self._post = member
        self._journal = journal
        self._chance = chance
        self._turn = 0
        self._limit_s = member.limit_s
        self._verbs: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.report, 5),
            (self.find, 4),
            (self.write, 4),
            (self.write_two, 1),
            (self.wait, 3 if member.rank else 0),
            (self.check, 4),
            (self.ask_agent, 1),
            (self.ask_person, 1),
        ]

    async def one(self) -> None:
        """Take a turn."""
        self._turn += 1
        self._journal.note("turn", inc=self._agent.incarnation)
        await self.produce(output_now())
        if not self._post.rank and self._chance.randrange(INTEGRATION_TURNS) == 0:
            await self.integrate()
        verbs, weights = zip(*self._verbs, strict=True)
        (verb,) = self._chance.choices(verbs, weights)
        with suppress(WaitTimeoutError):  # there is a limit only where replies can be lost
            await verb()

    async def report(self) -> None:
        """PROGRESS."""
        await self._agent.progress(min(99, self._turn), checkpoint=f"step-{self._turn}")

    async def find(self) -> None:
        """PARTIAL_RESULT: a finding of its own, and a counter."""
        key = f"{self._post.name}/{self._agent.incarnation}/{self._turn}"
        finding = {"key": key, "value": self._chance.randrange(1_000_000)}
        await self._agent.partial_result({"findings": [finding], "turns": {"$total": self._turn}})

    async def write(self) -> None:
        """INTENT, RELEASE: of paths that others write too."""
        paths = self._chance.sample(PATHS, self._chance.randint(1, 2))
        async with self._held(*paths):
            await asyncio.sleep(self._chance.random() * HOLD_S_MAX)

    async def write_two(self) -> None:
        """INTENT of one path while holding another: it can deadlock, and then one agent is told."""
        first, second = self._chance.sample(PATHS, 2)
        try:
            async with self._held(first):
                await asyncio.sleep(self._chance.random() * HOLD_S_MAX)
                async with self._held(second):
                    await asyncio.sleep(self._chance.random() * HOLD_S_MAX)
        except DeadlockError as error:
            self._journal.note("deadlock", cycle=list(error.cycle))

    async def wait(self) -> None:
        """BLOCKED on an output of an earlier agent of the team: the current, last or next one."""
        whose = TEAM_AGENTS[self._chance.randrange(self._post.rank)]
        name = output(whose, output_now() + self._chance.randint(-1, 1))
        async with self._waiting(name):
            await self._agent.wait_for(name, timeout=self._limit_s)

    async def check(self) -> None:
        """CHECKPOINT_REACHED: where barriers pause the agent."""
        async with self._waiting("checkpoint"):
            await self._agent.checkpoint(f"step-{self._turn}", timeout=self._limit_s)

    async def ask_agent(self) -> None:
        """ESCALATE to another agent."""
        others = [name for name in TEAM_AGENTS if name != self._post.name]
        await self._ask(self._chance.choice(others))

    async def ask_person(self) -> None:
        """ESCALATE to a person."""
        await self._ask(None)

    async def _ask(self, to: str | None) -> None:
        question = f"{self._post.name}/{self._agent.incarnation}/{self._turn}"
        async with self._waiting(f"question {question}"):
            await self._agent.escalate(
                "Which one?", options=["v1", "v2"], to=to, id=question, timeout=self._limit_s
            )

    async def integrate(self) -> None:
        """INTEGRATION_REQUIRED, INTEGRATED: between them no other agent of the team acts."""
        name = f"gate-{self._agent.incarnation}-{self._turn}"
        try:
            async with self._waiting(f"barrier {name}"):
                integrating = self._agent.integrating(
                    name, deadline_ms=20_000, timeout=self._limit_s
                )
                await integrating.__aenter__()
        except (BarrierError, DeadlockError, WaitTimeoutError) as error:
            self._journal.note("called off", barrier=name, why=str(error))
            return
        self._journal.note("opened", barrier=name, inc=self._agent.incarnation)
        await asyncio.sleep(self._chance.random() * HOLD_S_MAX)
        self._journal.note("closing", barrier=name)
        await integrating.__aexit__(None, None, None)

    async def produce(self, upto: int) -> None:
        """DEPENDENCY_RESOLVED, for every output that is due."""
        while self.made < upto:
            name = output(self._post.name, self.made + 1)
            await self._agent.resolve(name, location=f"{name}.json")
            self.made += 1
            self._journal.note("makes", made=self.made)

    async def produce_ahead(self) -> None:
        """Make the last outputs: others may already wait for the next ones."""
        await self.produce(output_now() + OUTPUTS_AHEAD)

    @asynccontextmanager
    async def _held(self, *paths: str) -> AsyncIterator[None]:
        """Hold paths; record the time from the grant to just before the release."""
        writing = self._agent.writing(*paths, timeout=self._limit_s)
        async with self._waiting(f"turn for {' '.join(paths)}"):
            grant = await writing.__aenter__()
        token = grant.token
        self._journal.note("holds", token=token, names=sorted(grant.resources))
        try:
            yield
        finally:
            self._journal.note("releases", token=token)
            await writing.__aexit__(None, None, None)

    @asynccontextmanager
    async def _waiting(self, on: str) -> AsyncIterator[None]:
        self._journal.note("waits", on=on)
        try:
            yield
        except BaseException as error:
            self._journal.note("waited", on=on, how=type(error).__name__)
            raise
        self._journal.note("waited", on=on, how="")
