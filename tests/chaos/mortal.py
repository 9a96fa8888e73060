"""Sessions that end while the load goes on: `python -m tests.chaos.mortal URL DIRECTORY SEED`.

In each partition one session after the other: two agents work in it, its run is closed, sometimes
the next one is opened, and then it is deleted, and its name is used again at once; or it is left to
retention, and the next one has another name. The process notes every life of a session, and what is
wrong: a key that is left, a log that does not begin anew, a token or an incarnation handed out
twice. What is wrong with the sessions of others, the judges find.
"""

import asyncio
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

from fabric.client.fabric import Fabric
from fabric.config.settings import load
from fabric.errors import FabricError, NotAllowedError, NotFoundError, ServerError, WaitTimeoutError
from fabric.store.keys import Partition
from fabric.store.redis import RedisStore
from tests.chaos.host import tell
from tests.chaos.journal import Journal
from tests.chaos.roster import MORTAL, PARTITIONS, is_over, session_in

#: Sessions that a partition keeps: those at work, and some that have ended.
SESSIONS_MAX = 12

#: What retention does: sessions go soon, and not all at once.
RULES = f"""
sessions_max = {SESSIONS_MAX}
recent_ms = 2000
look_ms = 1000
"""

#: Pause before something is tried again, s.
AGAIN_S = 0.2


class Mortal:
    """The sessions of one partition."""

    def __init__(self, fabric: Fabric, partition: Partition, journal: Journal, seed: int) -> None:
        self._fabric = fabric
        self._store = fabric.store
        self._partition = partition
        self._journal = journal
        self._chance = random.Random(f"{seed}/mortal {partition.number}")
        self._lives = 0
        self._names = 0
        self._name = ""
        #: What was handed out under the present name last.
        self._token = 0
        self._incarnation = 0

    async def live(self, directory: Path) -> None:
        """Let sessions begin and end until the run is over."""
        while not is_over(directory):
            self._lives += 1
            if not self._name:
                self._names += 1
                place = self._partition.number
                self._name = session_in(place, f"{MORTAL}-{place}-{self._names}")
                self._token = self._incarnation = 0
            for _ in range(self._chance.randint(1, 2)):
                with suppress(FabricError):  # the faults; what counts is what becomes of it
                    await self._work()
                await self._close()
            if self._chance.random() < 0.5:
                await self._purge()
            else:
                self._journal.note("left", session=self._name, life=self._lives)
                self._name = ""
        await self._settled()

    async def _work(self) -> None:
        name = self._name
        with suppress(NotAllowedError):  # one is open
            await self._fabric.open_run(name)
        async with (
            self._fabric.agent("A", session=name, workspace="none", take_over=True) as one,
            self._fabric.agent("B", session=name, workspace="none", take_over=True) as other,
        ):
            self._check("incarnation", one.incarnation, self._incarnation)
            self._incarnation = one.incarnation
            async with asyncio.timeout(20):
                async with one.writing("a.py") as grant:
                    self._check("token", grant.token, self._token)
                    self._token = grant.token
                await other.partial_result({"findings": [{"key": "k", "value": self._lives}]})
                await one.resolve("out", location="a.py")
                await other.wait_for("out")

    def _check(self, what: str, number: int, before: int) -> None:
        if number <= before:
            self._wrong(f"{what} {number} was handed out after {before}")

    async def _close(self) -> None:
        """Close the run; an attempt before may have done it."""
        while True:
            try:
                await self._fabric.close_run(self._name)
            except (NotAllowedError, NotFoundError):
                return
            except (ServerError, WaitTimeoutError):
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _purge(self) -> None:
        """Delete the session; look that nothing is left of it."""
        while True:
            try:
                with suppress(NotFoundError):
                    await self._fabric.purge(self._name)
                left = await self._left(self._name)
            except NotAllowedError:
                await self._close()
            except (ServerError, WaitTimeoutError):
                await asyncio.sleep(AGAIN_S)
            else:
                break
        if left:
            self._wrong(f"{left} are left")
        self._journal.note("gone", session=self._name, life=self._lives)

    async def _left(self, session: str) -> list[str]:
        prefix = f"{self._partition.session(session).prefix}:"
        return await self._store.named(self._partition.number, prefix, 10)

    async def _settled(self) -> None:
        """Wait until retention has done its work; what is gone is gone whole."""
        while len(await self._kept()) > SESSIONS_MAX:  # noqa: ASYNC110 - the workers are other processes
            await asyncio.sleep(AGAIN_S)
        kept, place = await self._kept(), self._partition.number
        names = [session_in(place, f"{MORTAL}-{place}-{n}") for n in range(1, self._names + 1)]
        for name in names:
            if name not in kept and (left := await self._left(name)):
                self._wrong(f"{name} is gone, and {left} are left")
        gone = len(names) - sum(name in kept for name in names)
        self._journal.note("over", lives=self._lives, names=len(names), gone=gone)

    async def _kept(self) -> set[str]:
        while True:
            with suppress(ServerError):
                scores = await self._store.scores(self._partition.sessions)
                return {name.decode() for name, _ in scores}
            await asyncio.sleep(AGAIN_S)

    def _wrong(self, text: str) -> None:
        where = f"{self._name or self._partition.prefix}, life {self._lives}"
        self._journal.note("wrong", text=f"{where}: {text}")


async def main(url: str, directory: Path, seed: int) -> None:
    """Live in all partitions at once; if one fails, the process fails."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    journal = Journal(directory / f"{MORTAL}.jsonl")
    settings = load(redis_url=url, partitions=PARTITIONS, confirm_ms=10_000)
    async with Fabric(RedisStore(url), settings) as fabric, asyncio.TaskGroup() as group:
        for number in range(PARTITIONS):
            partition = fabric.store.namespace.partition(number)
            group.create_task(Mortal(fabric, partition, journal, seed).live(directory))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
