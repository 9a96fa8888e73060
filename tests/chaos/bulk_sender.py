"""Agents that only report, in batches: `python -m tests.chaos.bulk_sender URL DIR RATE SESSION…`.

They keep the ingress busy: RATE signals a second on average; after an outage they catch up. A batch
is recorded before it is sent, and again when it is acknowledged.
"""

import asyncio
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

from fabric.client.emitter import NO_WORKSPACE, Emitter, prepare
from fabric.config.settings import load
from fabric.store.keys import partition_of
from fabric.store.redis import RedisStore
from tests.chaos.journal import Journal, now_ms
from tests.chaos.life import PATIENCE_MS, durability
from tests.chaos.roster import PARTITIONS, is_over, record

#: Agents of a session.
AGENTS = tuple(f"bee-{number:02}" for number in range(12))
#: Duration of one incarnation, ms.
LIFE_MS = 15_000
#: Signals in a batch, as a busy host sends them.
BATCH_SIGNALS = 100
#: Of this many signals of an agent, one is a result and one a heartbeat.
CYCLE = 8
#: Findings of an agent; later results replace them.
KEYS = 40
#: Signals for each percent of progress.
SIGNALS_A_PERCENT = 60


def signal(agent: str, number: int) -> tuple[str, dict[str, Any]]:
    """Return type and payload of an agent's signal with this number. The checker uses it too."""
    if number == 1:
        return "STARTED", {"task": f"{agent}'s count"}
    if number % CYCLE == 0:
        finding = {"key": f"{agent}/{number // CYCLE % KEYS}", "value": number}
        return "PARTIAL_RESULT", {"partial": {"findings": [finding]}}
    if number % CYCLE == 1:
        return "HEARTBEAT", {}
    return "PROGRESS", {"percent": number // SIGNALS_A_PERCENT % 100}


class BulkSender:
    """The agents of one session, and the last number of each."""

    def __init__(self, url: str, directory: Path, session: str) -> None:
        self._directory = directory
        self._session = session
        self._partition = partition_of(session, PARTITIONS)
        settings = load(redis_url=url)
        self._store = RedisStore(url, name="fabric-crowd", **durability(settings))
        self._emitter = Emitter(
            self._store,
            self._partition,
            ingress_max=settings.ingress_max,
            limit_ms=PATIENCE_MS,
        )
        self._journal = Journal(record(directory, session, "crowd"))
        self._lives: dict[str, int] = {}
        self._said: dict[str, int] = {}

    async def run(self, rate: float) -> None:
        """Send until the run is over, then send COMPLETED for each agent."""
        await self._emitter.retry(lambda: self._store.partitions(PARTITIONS))
        chance = random.Random(self._session)
        began, sent = now_ms(), 0
        until_ms = 0.0
        while not is_over(self._directory):
            if now_ms() > until_ms:
                await self._begin()
                until_ms = now_ms() + LIFE_MS
            due = (now_ms() - began) / 1000 * rate
            if sent > due:
                await asyncio.sleep((sent - due) / rate)
            await self._send([chance.choice(AGENTS) for _ in range(BATCH_SIGNALS)])
            sent += BATCH_SIGNALS
        if not self._said:
            await self._begin()
        await self._send(list(AGENTS), last=True)
        self._journal.note("ended", how="")
        await self._store.close()

    async def _begin(self) -> None:
        """Start a new incarnation of each agent; those declared dead meanwhile recover by it."""
        for name in AGENTS:
            enroll = partial(self._store.enroll, self._partition, self._session, name)
            self._lives[name] = await self._emitter.retry(enroll)
            self._said[name] = 0
        self._journal.note("began", lives=self._lives)

    async def _send(self, names: list[str], *, last: bool = False) -> None:
        batch: dict[str, list[int]] = {}
        entries = []
        for name in names:
            self._said[name] += 1
            number = self._said[name]
            kind, payload = ("COMPLETED", {"result": number}) if last else signal(name, number)
            batch.setdefault(name, [self._lives[name], number, number])[2] = number
            document = {"type": kind, "emitter": name, "seq": number, "payload": payload}
            document |= {"session": self._session, "incarnation": self._lives[name]}
            # The checker compares what was meant with the log: nothing is filled in.
            entries.append(prepare(document, {}, NO_WORKSPACE))
        self._journal.note("sending batch", batch=batch)
        await self._emitter.send(entries)
        self._journal.note("sent batch", batch=batch)


async def main(url: str, directory: Path, rate: float, sessions: list[str]) -> None:
    async with asyncio.TaskGroup() as group:
        for session in sessions:
            group.create_task(BulkSender(url, directory, session).run(rate / len(sessions)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
