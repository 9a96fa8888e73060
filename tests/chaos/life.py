"""One agent of a team: incarnation after incarnation, until the run is over."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fabric.client.agent import Agent
from fabric.client.fabric import Fabric
from fabric.config.settings import Settings, load
from fabric.core.signal import SignalType
from fabric.errors import FabricError
from tests.chaos.journal import Journal, lines
from tests.chaos.recording_store import RecordingStore
from tests.chaos.roster import OUTPUTS_AHEAD, PARTITIONS, Member, is_over, output_now
from tests.chaos.turn import Turns

#: Turns in one incarnation.
TURNS_MIN, TURNS_MAX = 20, 120
#: Pause between two turns, s.
PAUSE_S_MAX = 0.25
#: Pause before a refused agent starts again, s.
AGAIN_S = 0.2
#: Longest outage through which sending is tried, ms.
PATIENCE_MS = 600_000
#: Short enough that a live agent never counts as silent by the rules of these runs, ms.
HEARTBEAT_MS = 700
#: Share of the incarnations that end with FAILED.
FAILING = 0.1


async def live(member: Member) -> None:
    """Run one incarnation after the other; return when the run is over and the last has ended."""
    journal = Journal(member.record)
    chance = random.Random(f"{member.seed}/{member.session}/{member.name}")
    settings = load(
        redis_url=member.url,
        # After FLUSHALL the first process to connect fixes the partition count again.
        partitions=PARTITIONS,
        emit_limit_ms=PATIENCE_MS,
        heartbeat_ms=HEARTBEAT_MS,
    )
    store = RecordingStore(member.url, journal, **durability(settings))
    made = _made_last(member)
    try:
        while True:
            last = is_over(member.directory)
            try:
                async with Fabric(store, settings) as fabric:
                    made = await _incarnation(fabric, member, journal, chance, made)
            except (FabricError, TimeoutError) as error:
                journal.note("ended", how=f"{type(error).__name__}: {error}")
                await asyncio.sleep(AGAIN_S)
                continue
            if last:
                return
    finally:
        await store.close()
        journal.close()


def durability(settings: Settings) -> dict[str, Any]:
    """Return the store's options from settings; none that an older version would not accept."""
    replicas = getattr(settings, "wait_replicas", 0)
    return {"wait_replicas": replicas} if replicas else {}


def _made_last(member: Member) -> int:
    """Return the number of the last output that a predecessor of this process surely made.

    What it sent after its last wait may have been refused: it may have been declared dead.
    """
    known = made = output_now() - OUTPUTS_AHEAD
    for line in lines(member.record):
        if line["what"] == "makes":
            made = int(line["made"])
        elif line["what"] == "waited" and not line["how"]:
            known = made
    return known


async def _incarnation(
    fabric: Fabric, member: Member, journal: Journal, chance: random.Random, made: int
) -> int:
    """Run one incarnation; return the number of the output made last."""
    entered = fabric.agent(
        member.name,
        session=member.session,
        stream=member.name[0].upper(),
        priority=chance.randrange(5),
        task=f"{member.name}'s work",
        workspace="none",
        take_over=True,  # whoever starts it again has seen that the one before is gone
    )
    async with entered as agent, _listening(agent, member, journal):
        journal.note("began", inc=agent.incarnation)
        turns = Turns(agent, member, journal, chance, made)
        await agent.ready(timeout=member.limit_s)
        left = chance.randint(TURNS_MIN, TURNS_MAX)
        while left and not is_over(member.directory):
            left -= 1
            await turns.one()
            await asyncio.sleep(chance.random() * PAUSE_S_MAX)
        if is_over(member.directory):
            await turns.produce_ahead()
            await agent.ready(timeout=member.limit_s)
            assert isinstance(fabric.store, RecordingStore)
            journal.note("settled", upto=fabric.store.broadcast_upto)
        elif chance.random() < FAILING:
            await agent.fail("as it happens", retryable=chance.random() < 0.5)
    journal.note("ended", how="")
    return turns.made


@asynccontextmanager
async def _listening(agent: Agent, member: Member, journal: Journal) -> AsyncIterator[None]:
    """Answer other agents' questions in the background."""

    async def listen() -> None:
        async for message in agent.messages():
            question = message.payload.get("id")
            if message.type == SignalType.ESCALATE and message.payload.get("to") == member.name:
                journal.note("answers", question=question)
                with suppress(FabricError):
                    await agent.decide(str(question), str(message.payload["options"][0]))

    task = asyncio.create_task(listen())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
