"""The example session's agents: `python -m tests.end_to_end.example_agents URL ROLE`, ROLE one of
A, B, D and DETECTOR.

Each agent goes on when a message tells it to, or when the log shows the row before its own: the
order of the rows depends on no clock.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from fabric import Fabric
from fabric.client.message import Message
from fabric.core.signal import SignalType
from fabric.store.port import Entry
from fabric.wire.stored import pairs_of

SESSION = "demo"

#: Each agent gives up after this time, s; only a failing test takes that long.
PATIENCE_SECONDS = 60


class Witness:
    """Reads a session's log from its beginning."""

    def __init__(self, fabric: Fabric) -> None:
        self._log: AsyncIterator[Entry] = fabric.session(SESSION).log(follow=True)

    async def see(self, kind: str, **wanted: str) -> None:
        """Wait for an entry of this type after the last one seen."""
        async for _, flat in self._log:
            fields = {name.decode(): value.decode() for name, value in pairs_of(flat)}
            if {"type": kind, **wanted}.items() <= fields.items():
                return


async def told(messages: AsyncGenerator[Message, None], kind: str) -> Message:
    """Wait for a message of this type."""
    async for message in messages:
        if message.type == kind:
            return message
    raise AssertionError("the messages have ended")


async def stream_a(fabric: Fabric) -> None:
    """Produce the schema, edit config.py first, and complete when all are to meet."""
    witness = Witness(fabric)
    async with fabric.agent("A", session=SESSION, stream="A", produces=["schema-change"]) as agent:
        messages = agent.messages()
        await witness.see("STARTED", emitter="B")
        await agent.progress(25)
        nudge = await told(messages, "NUDGE")
        assert nudge.payload == {"on": "schema-change", "waiting": ["B"]}
        await agent.resolve("schema-change", location="alembic/versions/xyz.py")
        await agent.checkpoint("schema_migrated")
        granted = await told(messages, "PROCEED")
        assert granted.payload == {"resources": ["config.py"], "token": 1, "waiting": 1}
        await agent.resolve("config.py")
        await at_the_barrier(messages)


async def stream_b(fabric: Fabric) -> None:
    """Wait for the schema, and for the turn."""
    witness = Witness(fabric)
    await witness.see("STARTED", emitter="A")
    async with fabric.agent("B", session=SESSION, stream="B") as agent:
        messages = agent.messages()
        await witness.see("PROGRESS", emitter="A")
        location = await agent.wait_for("schema-change", timeout=PATIENCE_SECONDS)
        assert location == "alembic/versions/xyz.py"
        assert (await told(messages, "RESUME")).payload["dependency"] == "schema-change"
        assert (await told(messages, "CHECKPOINT_REACHED")).sender == "A"
        await agent.checkpoint("schema_migrated")
        await in_its_turn(messages)
        await at_the_barrier(messages)
        await witness.see("COMPLETED", emitter="A")


async def in_its_turn(messages: AsyncGenerator[Message, None]) -> None:
    """Pause, wait and go on, as the messages say."""
    pause = await told(messages, "PAUSE")
    assert pause.payload == {"reason": "conflict", "resources": ["config.py"]}
    wait = await told(messages, "WAIT")
    assert (wait.payload["position"], wait.payload["holder"]) == (1, "A")
    assert (await told(messages, "RESUME")).payload["resources"] == ["config.py"]
    assert (await told(messages, "PROCEED")).payload["token"] == 2


async def at_the_barrier(messages: AsyncGenerator[Message, None]) -> None:
    """Wait until D has called the integration and both are held."""
    assert (await told(messages, "INTEGRATION_REQUIRED")).sender == "D"
    pause = await told(messages, "PAUSE")
    assert (pause.payload["barrier"], pause.payload["members"]) == ("release", ["A", "B"])


async def detector(fabric: Fabric) -> None:
    """See from outside that both want to edit config.py; not an agent of the session."""
    witness = Witness(fabric)
    await witness.see("CHECKPOINT_REACHED", emitter="B")
    conflict = {"resources": ["config.py"], "agents": ["A", "B"], "kind": "write-write"}
    await say(fabric, SignalType.CONFLICT_DETECTED, "DETECTOR", "", conflict)


async def stream_d(fabric: Fabric) -> None:
    """Join to integrate: the call is the first signal, as in the example."""
    witness = Witness(fabric)
    await witness.see("PROCEED", to="B")
    await say(fabric, SignalType.INTEGRATION_REQUIRED, "D", "D", {"name": "release", "level": 3})
    await witness.see("PROCEED", to="D")


async def say(
    fabric: Fabric, kind: SignalType, emitter: str, stream: str, payload: Mapping[str, object]
) -> None:
    """Send one signal, without STARTED or COMPLETED."""
    signal = {"session": SESSION, "type": kind.value, "emitter": emitter, "payload": payload}
    await fabric.emit([{**signal, "stream": stream} if stream else signal])


ROLES = {"A": stream_a, "B": stream_b, "D": stream_d, "DETECTOR": detector}


async def main(url: str, role: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), Fabric.connect(url) as fabric:
        await ROLES[role](fabric)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
