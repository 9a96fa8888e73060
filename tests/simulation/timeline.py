"""Simulated time: one ordered queue of everything that will happen."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from tests.simulation.loop import NodeLoop

#: Callbacks that may run without any time passing. Far more than the largest batch needs: beyond
#: this the code is in an endless loop.
INSTANT_CALLS_MAX = 500_000


class SpinError(Exception):
    """Callbacks run endlessly at one moment of simulated time."""


class Timeline:
    """The queue of callbacks of the nodes' event loops, and of events of the world itself.

    Times are seconds since the start. Two things at the same time happen in the order in which they
    were scheduled, so a run does not depend on the machine.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        #: Number of callbacks so far: the cost of a run.
        self.steps = 0
        self._soon: deque[tuple[NodeLoop, asyncio.Handle]] = deque()
        self._later: list[tuple[float, int, NodeLoop | None, Any]] = []
        self._count = 0
        self._instant = 0
        self._running: NodeLoop | None = None

    def soon(self, node: NodeLoop, handle: asyncio.Handle) -> None:
        """Run a node's callback now, after those that already wait."""
        self._soon.append((node, handle))

    def later(self, when_s: float, node: NodeLoop, handle: asyncio.TimerHandle) -> None:
        """Run a node's callback at a time."""
        self._count += 1
        heappush(self._later, (max(when_s, self.now_s), self._count, node, handle))

    def at(self, when_s: float, call: Callable[[], object]) -> None:
        """Run an event of the world at a time."""
        self._count += 1
        heappush(self._later, (max(when_s, self.now_s), self._count, None, call))

    def after(self, pause_s: float, call: Callable[[], object]) -> None:
        """Run an event of the world after a delay."""
        self.at(self.now_s + pause_s, call)

    def run(self, until_s: float) -> None:
        """Run everything up to a time. Raises SpinError, and errors of events."""
        soon, later = self._soon, self._later
        try:
            while True:
                while soon:
                    self._run(*soon.popleft())
                if not later or later[0][0] > until_s:
                    break
                when_s, _, owner, what = heappop(later)
                if when_s > self.now_s:
                    self.now_s, self._instant = when_s, 0
                if owner is None:
                    self.steps += 1
                    self._enter(None)
                    what()
                else:
                    self._run(owner, what)
        finally:
            self._enter(None)
        self.now_s = until_s

    def _run(self, node: NodeLoop, handle: asyncio.Handle) -> None:
        if handle.cancelled() or not node.admit(handle):
            return
        self.steps += 1
        self._instant += 1
        if self._instant > INSTANT_CALLS_MAX:
            raise SpinError(f"{node.name} goes round in a circle at {self.now_s:.3f} s: {handle!r}")
        self._enter(node)
        handle._run()

    def _enter(self, node: NodeLoop | None) -> None:
        """Let asyncio take a node's loop, or none, for the one that runs."""
        if node is not self._running:
            self._running = node
            asyncio._set_running_loop(node)
