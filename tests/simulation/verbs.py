"""What agents do in a simulation: one function for each verb of the plan, with the real client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from fabric.client.agent import Agent
from fabric.core.signal import SignalType
from fabric.core.task import TaskSpec
from fabric.errors import WaitTimeoutError
from tests.simulation.plan import Line

if TYPE_CHECKING:
    from tests.simulation.actor import Actor

Verb = Callable[["Actor", Agent, Line], Awaitable[None]]

#: Longest wait where the plan gives none, s.
TIMEOUT_S = 120.0


async def progress(actor: Actor, agent: Agent, line: Line) -> None:
    """`progress 50 files_read`."""
    checkpoint = line.words[1] if len(line.words) > 1 else None
    await agent.progress(float(line.subject), checkpoint=checkpoint)


async def announce(actor: Actor, agent: Agent, line: Line) -> None:
    """`announce 240`: nothing will be heard for so many seconds."""
    await agent.heartbeat(expect_ms=int(line.subject) * 1000)


async def partial(actor: Actor, agent: Agent, line: Line) -> None:
    """`partial key value`: a finding; `partial /place value`: a place of the document."""
    key, value = line.words[:2]
    if key.startswith("/"):
        await agent.partial_result({key[1:]: int(value)})
    else:
        await agent.partial_result({"findings": [{"key": key, "value": value}]})


async def findings(actor: Actor, agent: Agent, line: Line) -> None:
    """`findings 40`: this many findings about a few things, as fast as possible."""
    for number in range(int(line.subject)):
        await agent.partial_result({"findings": [{"key": f"k{number % 3}", "value": number}]})


async def write(actor: Actor, agent: Agent, line: Line) -> None:
    """`write a.py,b.py hold=3 timeout=60 then=c.py`: claim these, and then one more."""
    timeout_s, hold_s = line.option("timeout", TIMEOUT_S), line.option("hold", 1.0)
    then = line.named().get("then")
    async with AsyncExitStack() as held:
        first = agent.writing(*line.subject.split(","), timeout=timeout_s)
        grant = await held.enter_async_context(first)
        actor.enter(grant)
        held.callback(actor.grants.remove, grant)
        await asyncio.sleep(hold_s / 2)
        if then is not None:
            grant = await held.enter_async_context(agent.writing(then, timeout=timeout_s))
            actor.enter(grant)
            held.callback(actor.grants.remove, grant)
        await asyncio.sleep(hold_s / 2)


async def wait(actor: Actor, agent: Agent, line: Line) -> None:
    """`wait d1 timeout=60`."""
    await agent.wait_for(line.subject, timeout=line.option("timeout", TIMEOUT_S))


async def resolve(actor: Actor, agent: Agent, line: Line) -> None:
    """`resolve d1 A,B`: with named consumers."""
    consumers = line.words[1].split(",") if len(line.words) > 1 else ()
    await agent.resolve(line.subject, location=f"{line.subject}.txt", consumers=consumers)


async def checkpoint(actor: Actor, agent: Agent, line: Line) -> None:
    """`checkpoint files_read`."""
    await agent.checkpoint(line.subject, timeout=line.option("timeout", TIMEOUT_S))


async def ready(actor: Actor, agent: Agent, line: Line) -> None:
    """`ready`."""
    await agent.ready(timeout=line.option("timeout", TIMEOUT_S))


async def integrate(actor: Actor, agent: Agent, line: Line) -> None:
    """`integrate release hold=2 timeout=100`."""
    async with agent.integrating(line.subject, timeout=line.option("timeout", TIMEOUT_S)):
        await asyncio.sleep(line.option("hold", 1.0))


async def ask(actor: Actor, agent: Agent, line: Line) -> None:
    """`ask timeout=60`, or `ask to=B id=q1 deadline=30 default=one`: B does not answer."""
    named = line.named()
    await agent.escalate(
        "Which one?",
        options=["one", "two"],
        to=named.get("to"),
        id=named.get("id"),
        deadline_ms=int(line.option("deadline", 0)) * 1000 or None,
        default=named.get("default"),
        timeout=line.option("timeout", TIMEOUT_S),
    )


async def ahead(actor: Actor, agent: Agent, line: Line) -> None:
    """`ahead 2`: capacity for so many tasks."""
    await agent.ahead(capacity=int(line.subject or 1))


async def burst(actor: Actor, agent: Agent, line: Line) -> None:
    """`burst 50`: this many signals, as fast as possible."""
    for number in range(int(line.subject)):
        await agent.emit(SignalType.PROGRESS, {"percent": number % 100})


async def limited(actor: Actor, agent: Agent, line: Line) -> None:
    """`limited api 20`: a quota is used up for so many seconds."""
    for_ms = int(line.words[1]) * 1000
    await agent.rate_limited(line.subject, for_ms, timeout=line.option("timeout", TIMEOUT_S))


async def add(actor: Actor, agent: Agent, line: Line) -> None:
    """`add t5 t6:t5`: two tasks, one after the other; with `writes=a.py,b.py`, both write those."""
    named = line.named()
    writes = named["writes"].split(",") if "writes" in named else []
    parts = (word.partition(":") for word in line.words if "=" not in word)
    tasks = [
        TaskSpec(
            name,
            stream=named.get("stream", ""),
            writes=writes,
            can_merge_after=[before] if before else [],
        )
        for name, _, before in parts
    ]
    await agent.add_tasks(*tasks)


async def begin(actor: Actor, agent: Agent, line: Line) -> None:
    """`begin t5 timeout=60`: take a task of the board."""
    await agent.begin(line.subject, timeout=line.option("timeout", TIMEOUT_S))


async def take(actor: Actor, agent: Agent, line: Line) -> None:
    """`take timeout=60`: ask for a task."""
    await agent.next_task(timeout=line.option("timeout", TIMEOUT_S))


async def work(actor: Actor, agent: Agent, line: Line) -> None:
    """`work hold=2 timeout=60`: do one task after the other, until there is none for so long."""
    half_s = line.option("hold", 1.0) / 2
    while True:
        try:
            await agent.next_task(timeout=line.option("timeout", TIMEOUT_S))
        except WaitTimeoutError:
            return
        await asyncio.sleep(half_s)
        await agent.progress(50)
        await asyncio.sleep(half_s)
        await agent.done()


async def done(actor: Actor, agent: Agent, line: Line) -> None:
    """`done`: the task begun last is complete."""
    await agent.done()


async def idle(actor: Actor, agent: Agent, line: Line) -> None:
    """`idle 30`: busy without any signal."""
    await asyncio.sleep(float(line.subject))


async def complete(actor: Actor, agent: Agent, line: Line) -> None:
    """`complete`."""
    await agent.complete({"done": True})


async def fail(actor: Actor, agent: Agent, line: Line) -> None:
    """`fail`."""
    await agent.fail("simulated", retryable=True)


VERBS: dict[str, Verb] = {
    verb.__name__: verb
    for verb in (
        *(
            progress,
            announce,
            partial,
            findings,
            write,
            wait,
            resolve,
            checkpoint,
            ready,
            integrate,
        ),
        *(ask, ahead, burst, limited, add, begin, take, work, done, idle, complete, fail),
    )
}
