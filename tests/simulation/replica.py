"""A worker's process: the real replica, lease and loop, in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from fabric.config.settings import Settings
from fabric.core.rules import Rules
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Partition
from fabric.store.port import WorkerStore
from tests.simulation.judge.rules import check_session
from tests.simulation.node import Node
from workers import synthesizer
from workers.handler import Decided, Handler
from workers.orchestrator import Orchestrator
from workers.replica import Replica


class Watched(Orchestrator):
    """An orchestrator's handler whose sessions are checked after every batch."""

    def watch(self, count: Callable[[], None], holds: Callable[[], bool]) -> None:
        """Count the checked sessions; `holds` tells whether we really hold the lease."""
        self._count = count
        self._holds = holds
        self._seen: dict[str, int] = {}

    def decide(self, inputs: list[Any], now_ms: int) -> Decided:
        """See Handler."""
        decided = super().decide(inputs, now_ms)
        for name, stored in self._sessions.items():
            session = stored.state
            if self._seen.get(name) != session.log:
                self._seen[name] = session.log
                # A worker that has lost its lease and does not know it may have read a mix of old
                # and new records. Its commit is refused, so its sessions do not matter.
                if self._holds():
                    check_session(session)
                self._count()
        return decided

    def forget(self) -> None:
        """See Handler."""
        self._seen.clear()
        super().forget()


class Worker:
    """One replica of a group: it joins, leaves in order, or is killed."""

    def __init__(
        self,
        node: Node,
        group: str,
        rules: Rules,
        settings: Settings,
        holder: Callable[[int, str], str],
    ) -> None:
        self.node = node
        #: Partition and group → holder of the lease, as the server sees it.
        self._holder = holder
        self.checks = 0
        self._stop = asyncio.Event()
        nonces = _nonces(node.name)
        replica = Replica(
            node.store,
            group,
            self._factory(group, rules, settings),
            settings,
            node.name,
            nonce=lambda: next(nonces),
            place=(node.name, 1),
            clock_ms=lambda: 0.0,
        )
        node.run(replica.run(self._stop))

    def leave(self) -> None:
        """SIGTERM: drain, and release the leases."""
        self._stop.set()

    def _factory(
        self, group: str, rules: Rules, settings: Settings
    ) -> Callable[[WorkerStore, Partition], Handler]:
        fold = synthesizer.factory(rules, settings, {})

        def watched(store: WorkerStore, partition: Partition) -> Handler:
            number, name = partition.number, self.node.name
            if group == SYNTHESIZERS:
                handler: Handler = fold(store, partition)
            else:
                assert group == ORCHESTRATORS
                handler = Watched(store, partition, rules, settings)
                handler.watch(self._checked, lambda: self._holder(number, group) == name)
            if not name.endswith("2"):
                handler.copied_bytes_min = 0  # for some workers, all entries are large
            return handler

        return watched

    def _checked(self) -> None:
        self.checks += 1


def _nonces(name: str) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{name}#{number}"
