"""The end of a script's wait: RELEASE follows BLOCKED, whatever stops the script meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from fabric.client.emitter import Emitter
from fabric.client.sent_signal import SentSignal
from fabric.client.session import Session
from fabric.ops.script import ScriptAgent
from fabric.store.keys import ORCHESTRATORS
from fabric.testing.store import MemoryStore
from fabric.wire.entry import decode
from tests.support.waiting import eventually


@dataclass(eq=False)
class HeldEmitter(Emitter):
    """Sends nothing before `go` is set; notes what it is asked to send, and what it has sent."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    async def send(
        self,
        entries: Sequence[Sequence[bytes]],
        *,
        numbered: bool = True,
        group: str = ORCHESTRATORS,
        deadline: float | None = None,
        before: Callable[[], Awaitable[int | None]] | None = None,
    ) -> list[bytes]:
        kinds = [decode(list(entry)).type.value for entry in entries]
        self.asked += kinds
        await self.go.wait()
        self.sent += kinds
        return await super().send(entries, numbered=numbered, group=group)


def script(emitter: HeldEmitter) -> ScriptAgent:
    store = MemoryStore(lambda: 1)
    partition = store.namespace.partition(0)
    keys = partition.session("s")
    sent = SentSignal(store, partition, emitter, keys.inbox("B"))
    return ScriptAgent(Session(store, keys), sent, "B", None, 60_000, lambda text: None)


def held() -> HeldEmitter:
    return HeldEmitter(MemoryStore(lambda: 1), 0, ingress_max=10, limit_ms=1_000)


async def cancel(task: "asyncio.Task[object]") -> None:
    """Cancel a task, and let it take note."""
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_wait_that_is_stopped_twice_is_withdrawn() -> None:
    emitter = held()
    task = asyncio.create_task(script(emitter).wait_for("x"))
    emitter.go.set()
    await eventually(lambda: emitter.sent == ["BLOCKED"])
    emitter.go.clear()
    await cancel(task)
    await eventually(lambda: emitter.asked == ["BLOCKED", "RELEASE"])
    await cancel(task)
    assert not task.done()
    emitter.go.set()
    with suppress(asyncio.CancelledError):
        await task
    assert emitter.sent == ["BLOCKED", "RELEASE"]


async def test_the_withdrawal_does_not_overtake_the_wait() -> None:
    emitter = held()
    task = asyncio.create_task(script(emitter).wait_for("x"))
    await eventually(lambda: emitter.asked == ["BLOCKED"])
    await cancel(task)
    assert emitter.asked == ["BLOCKED"]
    emitter.go.set()
    with suppress(asyncio.CancelledError):
        await task
    assert emitter.sent == ["BLOCKED", "RELEASE"]
