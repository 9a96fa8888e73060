"""One simulated process and its connection to the server."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any

from tests.simulation.loop import NodeLoop, Report
from tests.simulation.network import Link, Weather
from tests.simulation.observed_store import ObservedStore
from tests.simulation.server import SimulatedServer
from tests.simulation.store import RemoteStore
from tests.simulation.timeline import Timeline


class Node:
    """A process: an event loop, a connection to the server, and a task."""

    def __init__(
        self,
        name: str,
        timeline: Timeline,
        server: SimulatedServer,
        behind: ObservedStore,
        *,
        seed: int,
        counts: dict[str, int],
        report: Report,
    ) -> None:
        self.name = name
        self.loop = NodeLoop(timeline, name, report)
        # Its own random numbers: a line that shrinking removes elsewhere changes nothing here.
        chance = random.Random(f"{seed}/{name}")
        self.link = Link(timeline, server, self.loop, chance, counts)
        self.store = RemoteStore(behind, self.link)
        self._tasks: list[Any] = []

    @property
    def is_alive(self) -> bool:
        """Return whether it has neither ended nor been killed."""
        return not self.loop.is_dead and any(not task.done() for task in self._tasks)

    @property
    def is_healthy(self) -> bool:
        """Return whether it runs, and nothing is wrong with its link."""
        return self.is_alive and not self.loop.is_frozen and self.link.weather == Weather()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Start another task in it."""
        self._tasks.append(self.loop.create_task(work))

    def kill(self) -> int:
        """SIGKILL. Return the number of its requests in flight: they may still arrive."""
        if self.loop.is_dead:
            return 0
        under_way = self.link.abandon()
        self.loop.kill()
        return under_way
