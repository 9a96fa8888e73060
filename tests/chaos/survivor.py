"""Agents that an outage finds at work: `python -m tests.chaos.survivor URL DIRECTORY S SESSION…`.

Their settings are the defaults. When the outage of S seconds begins, in each session

    ada  holds a file, and has a question to answer
    bob  waits for the file
    cyd  waits at a barrier that it has called; its deadline would pass during the outage
    dan  works and reports, again and again while the outage lasts
    eve  waits for ada's answer; after the outage the default would have been taken
    fay  waits for an output of dan's

Afterwards each does what the others wait for. If an agent is told anything that it would not have
been told without an outage, its process ends with an error.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.config.settings import load
from fabric.core.limits import RHYTHM_INTERVALS_MIN
from fabric.core.record import AgentStatus
from fabric.core.signal import SignalType
from fabric.errors import ServerError
from tests.chaos.host import tell
from tests.chaos.journal import Journal
from tests.chaos.recording_store import RecordingStore
from tests.chaos.roster import PARTITIONS, SURVIVORS, is_over, record

#: Time between two reports of an agent at work, and between two looks at what it waits for, s.
PAUSE_S = 1.0
LOOK_S = 0.1
#: Shortest deadline, s: time before and after the outage counts, also on a busy machine.
DEADLINE_S_MIN = 90.0

FILE, OUTPUT, LOCATION = "src/a.py", "out/dan", "dan.json"
OPTIONS = ("v1", "v2")


class Survivor:
    """One agent."""

    def __init__(self, directory: Path, agent: Agent, journal: Journal, outage_s: float) -> None:
        self._directory = directory
        self._agent = agent
        self._journal = journal
        self._deadline_ms = int(1000 * max(outage_s, DEADLINE_S_MIN))

    async def live(self) -> None:
        """Do the agent's part, from its start to its end."""
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "ada": self._hold, "bob": self._take_over, "cyd": self._lead,
            "dan": self._work, "eve": self._ask, "fay": self._use,
        }  # fmt: skip
        async with self._agent:
            self._journal.note("began", inc=self._agent.incarnation)
            await self._agent.ready()
            await parts[self._agent.name]()
        self._journal.note("ended", how="")

    async def _hold(self) -> None:
        await self._report_often()
        async with self._held() as lost:
            while not is_over(self._directory):  # noqa: ASYNC110 - the runner is another process
                await asyncio.sleep(LOOK_S)
            assert not lost.is_set(), "the file was taken from its holder"
        async for message in self._agent.messages():
            if message.type == SignalType.ESCALATE:
                await self._agent.decide(str(message.payload["id"]), OPTIONS[1])
                break
        await self._agent.checkpoint("done")

    async def _take_over(self) -> None:
        await self._until(self._is_held)
        async with self._held():
            assert is_over(self._directory), "the file has two holders"

    async def _lead(self) -> None:
        """Call the barrier when all others are in their places: it would keep them from there."""
        await self._until(self._are_placed)
        async with self._waiting("barrier gate"):
            gate = self._agent.integrating("gate", deadline_ms=self._deadline_ms)
            await gate.__aenter__()
        self._journal.note("opened", barrier="gate", inc=self._agent.incarnation)
        assert is_over(self._directory), "the barrier has opened without its members"
        self._journal.note("closing", barrier="gate")
        await gate.__aexit__(None, None, None)

    async def _work(self) -> None:
        await self._report_often()
        while not is_over(self._directory):
            try:
                await self._agent.progress()
            except ServerError as error:  # after emit_limit_ms: what an agent does then is its own
                self._journal.note("not sent", why=str(error))
            await asyncio.sleep(PAUSE_S)
        await self._agent.resolve(OUTPUT, location=LOCATION)
        await self._agent.checkpoint("done")

    async def _ask(self) -> None:
        async with self._waiting("question"):
            answer = await self._agent.escalate(
                "Which one?", options=OPTIONS, to="ada", id="which",
                deadline_ms=self._deadline_ms, default=OPTIONS[0],
            )  # fmt: skip
        assert answer == OPTIONS[1], "the default was taken although ada has answered"

    async def _use(self) -> None:
        async with self._waiting(OUTPUT):
            assert await self._agent.wait_for(OUTPUT) == LOCATION

    async def _report_often(self) -> None:
        """Get a rhythm: after that, silence_ms_min is the limit of the agent's silence."""
        for _ in range(RHYTHM_INTERVALS_MIN + 1):
            await self._agent.progress()

    async def _until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        while not await condition():  # noqa: ASYNC110 - the server is another process
            await asyncio.sleep(LOOK_S)

    async def _is_held(self) -> bool:
        return bool(await self._agent.session.claims())

    async def _are_placed(self) -> bool:
        session = self._agent.session
        agents = await session.agents()
        return (
            len(agents) == len(SURVIVORS)
            and all(agents[name].status is AgentStatus.BLOCKED for name in ("bob", "eve", "fay"))
            and all(len(agents[name].intervals) >= RHYTHM_INTERVALS_MIN for name in ("ada", "dan"))
        )

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[asyncio.Event]:
        writing = self._agent.writing(FILE)
        async with self._waiting(f"turn for {FILE}"):
            grant = await writing.__aenter__()
        self._journal.note("holds", token=grant.token, names=sorted(grant.resources))
        yield grant.lost
        self._journal.note("releases", token=grant.token)
        await writing.__aexit__(None, None, None)

    @asynccontextmanager
    async def _waiting(self, on: str) -> AsyncIterator[None]:
        self._journal.note("waits", on=on)
        yield
        self._journal.note("waited", on=on, how="")


async def survive(url: str, directory: Path, session: str, name: str, outage_s: float) -> None:
    """Run one agent from its start to its end."""
    journal = Journal(record(directory, session, name))
    settings = load(redis_url=url, partitions=PARTITIONS)
    store = RecordingStore(url, journal)
    try:
        async with Fabric(store, settings) as fabric:
            produces = [OUTPUT] if name == "dan" else []
            agent = fabric.agent(
                name, session=session, produces=produces, workspace="none", take_over=True
            )
            await Survivor(directory, agent, journal, outage_s).live()
    finally:
        await store.close()
        journal.close()


async def main(url: str, directory: Path, outage_s: float, sessions: list[str]) -> None:
    """Run all agents of all sessions; if one fails, the process fails."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    async with asyncio.TaskGroup() as group:
        for session in sessions:
            for name in SURVIVORS:
                group.create_task(survive(url, directory, session, name, outage_s))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
