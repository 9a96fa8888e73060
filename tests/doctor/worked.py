"""A namespace in use, and the doctor's report on it."""

import asyncio

import redis

from fabric import Fabric, doctor
from fabric.core.policy import WorktreePolicy
from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.doctor import Finding, Level, Report
from fabric.store.keys import SYNTHESIZERS
from fabric.store.redis import RedisStore
from tests.support.in_process import serving, settings
from tests.support.servers import RunningServer
from tests.support.waiting import eventually
from workers import synthesizer
from workers.replica import Replica

#: The content of a namespace after some work: key → DUMP, by flavour of the server.
_worked: dict[str, dict[bytes, bytes]] = {}

#: The unfinished work of two agents. C holds a file that both want, waits for a person's decision,
#: and has called a barrier at which D, which waits for C, counts as arrived.
_UNFINISHED = [
    ("C", "INTENT", b'{"writes": ["a:b.py"]}'),
    ("D", "INTENT", b'{"writes": ["a:b.py"]}'),
    ("C", "INTEGRATION_REQUIRED", b'{"name": "release"}'),
    ("C", "ESCALATE", b'{"question": "Which one?"}'),
]


#: A session that was closed and opened again: it remembers the agent of its first run, and expects
#: another.
_EARLIER = [
    ("E", "STARTED", b"{}"),
    ("E", "RUN_CLOSED", b"{}"),
    ("E", "RUN_OPENED", b'{"expect": ["X"]}'),
]


def _said(emitter: str, kind: str, payload: bytes, session: str = "s") -> list[bytes]:
    fields = {"session": session, "type": kind, "emitter": emitter}
    return [*(part.encode() for pair in fields.items() for part in pair), b"payload", payload]


async def _work(url: str, store: RedisStore) -> None:
    """Run a session that writes every kind of key."""
    async with (
        serving(url, rules=Rules(worktrees=WorktreePolicy.SEPARATE)),
        Fabric.connect(url) as fabric,
        fabric.agent("A", session="s", produces=["api"], task="t", workspace="h:/w") as first,
        fabric.agent("B: the second", session="s") as second,
    ):
        await second.emit(SignalType.BLOCKED, {"on": "nobody's"})
        await second.emit(SignalType.BLOCKED, {"on": "api"})
        await first.partial_result({"findings": [{"key": "k", "value": 1}]})
        await first.emit(SignalType.INTENT, {"writes": ["a.py"]})
        await first.emit(SignalType.CHECKPOINT_REACHED, {"checkpoint": "half"})
        await first.resolve("api", location="here")
        assert await second.wait_for("api", timeout=30) == "here"
        names = store.namespace.partition(0)
        keys = names.session("s")
        await store.emit(0, [[b"type", b"NONSENSE"]], 10)
        await eventually(lambda: store.length(names.dead), "the nonsense is refused")
        await eventually(lambda: store.call("EXISTS", keys.synthesis), "the result is folded")
        await second.complete()
        await first.complete()
        await store.emit(0, [_said(*said) for said in _UNFINISHED], 10)
        await eventually(lambda: store.call("EXISTS", keys.escalations), "they are heard")
        await store.emit(0, [_said(*said, session="earlier") for said in _EARLIER], 10)
        retired = names.session("earlier").retired
        await eventually(lambda: store.call("EXISTS", retired), "the second run begins")
    assert await store.call("HLEN", keys.cursors), "an agent that ends well stores its place"


async def _work_and_fold(url: str) -> None:
    chosen = settings(url)
    store = RedisStore(url)
    replica = Replica(
        store, SYNTHESIZERS, synthesizer.factory(Rules(), chosen, {}), chosen, "synthesizer-1"
    )
    stop = asyncio.Event()
    folding = asyncio.create_task(replica.run(stop))
    try:
        await _work(url, store)
    finally:
        stop.set()
        await folding
        await store.close()


def work(server: RunningServer) -> None:
    """Put the result of some work on an empty server, without any running agents and workers.

    The first call runs agents and workers; later calls restore the keys that they wrote."""
    with redis.Redis.from_url(server.url) as client:
        if server.flavour not in _worked:
            asyncio.run(_work_and_fold(server.url))
            _worked[server.flavour] = {
                key: bytes(client.execute_command("DUMP", key)) for key in client.keys("fabric:*")
            }
            return
        for key, value in _worked[server.flavour].items():
            client.restore(key, 0, value)


def examine(server: RunningServer, *, url: str | None = None, reseed: bool = False) -> Report:
    async def look() -> Report:
        store = RedisStore(url or server.url)
        try:
            return await doctor.examine(store, "there", 1, reseed=reseed)
        finally:
            await store.close()

    return asyncio.run(look())


def only(report: Report, check: str) -> Finding:
    (found,) = [finding for finding in report.findings if finding.check == check]
    return found


def odd(report: Report) -> list[tuple[Level, str]]:
    return [(found.level, found.found) for found in report.findings if found.check == "key"]
