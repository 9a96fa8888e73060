"""One stage of a run: its processes and directory, faults, the drain at the end."""

import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fabric.store.keys import Namespace, partition_of
from tests.chaos import plan
from tests.chaos.collect import is_empty
from tests.chaos.context import Context, Tally
from tests.chaos.deployment import UNREACHABLE, Deployment
from tests.chaos.journal import Journal, now_ms
from tests.chaos.probe import NotRecoveredError, Probe, Recovery
from tests.chaos.process import PERSON, SENDERS, WORKERS, Fleet
from tests.chaos.roster import PARTITIONS
from tests.support.waiting import until

#: Pause between two faults of one deck, s.
PAUSE_S_MIN, PAUSE_S_MAX = 0.2, 1.5
#: Time after the faults for everything to finish, s.
FINISH_S_MAX = 120.0
#: Time for agents to take their places before an outage, s.
PLACES_S_MAX = 60.0

NAMESPACE = Namespace()


class StartError(Exception):
    """The fabric did not start at all: there is nothing to test."""


@dataclass
class Outcome:
    """The result of a run, before its evidence is checked."""

    tally: Tally = field(default_factory=Tally)
    #: Point of measurement → recoveries.
    recoveries: dict[str, list[Recovery]] = field(default_factory=dict)
    #: Failures of the run itself, a line each.
    problems: list[str] = field(default_factory=list)
    #: Kind of failover → signals lost by each.
    lost: dict[str, list[int]] = field(default_factory=dict)
    #: Agents that were at work when an outage of the outages' stage began.
    survivors: int = 0
    #: Directories of the stages, each with its own evidence.
    stages: list[Path] = field(default_factory=list)
    seconds: float = 0.0


class Stage:
    """One stage. `fleet` may be that of the stage before: its workers go on."""

    def __init__(
        self, deployment: Deployment, fleet: Fleet, directory: Path, seed: int, outcome: Outcome
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.deployment = deployment
        self.fleet = fleet
        self.seed = seed
        self.outcome = outcome
        self.journal = Journal(directory / "faults.jsonl")
        self._probe = Probe(deployment)
        self._stop = threading.Event()
        self._until_ms = 0.0
        outcome.stages.append(directory)

    def start(self, *kinds: str) -> None:
        """Start every process of these kinds that is not running."""
        for slot in self.fleet.of(*kinds):
            if not slot.is_alive:
                slot.start()

    def inject_faults(self, decks: Sequence[tuple[plan.Deck, bool]], minutes: float) -> None:
        """Play decks side by side until the time is over; measured ones at least once in full."""
        self._until_ms = now_ms() + minutes * 60_000
        self._stop.clear()
        (deck, _), *others = sorted(decks, key=lambda one: not one[1])
        sides = [
            threading.Thread(target=self._play, args=(other, f"deck {number}", False))
            for number, (other, _) in enumerate(others)
        ]
        for side in sides:
            side.start()
        try:
            self._play(deck, "measured", True)
        finally:
            self._stop.set()
            for side in sides:
                side.join()

    def _play(self, deck: plan.Deck, name: str, is_measured: bool) -> None:
        chance = random.Random(f"{self.seed}/{name}")
        context = Context(
            self.deployment, self.fleet, chance, self.outcome.tally, self.journal.note
        )
        decks = 0
        for is_first, kind, fault in plan.deal(deck, chance):
            decks += is_first
            is_enough = decks > 1 or not is_measured
            if self._stop.is_set() or (is_enough and now_ms() > self._until_ms):
                return
            self.journal.note("fault", kind=kind)
            context.tally.faults[kind] += 1
            try:
                for point in fault(context):
                    self.journal.note("point", point=point)
                    if is_measured:
                        self.measure(point)
            except UNREACHABLE as error:
                self.outcome.problems.append(f"{kind}: {type(error).__name__}: {error}")
            if is_measured:
                self.fleet.look()
                self._show(kind)
            time.sleep(chance.uniform(PAUSE_S_MIN, PAUSE_S_MAX))

    def measure(self, point: str) -> None:
        """Wait until the fabric works again; record how long that took."""
        try:
            recovery = self._probe.recovery()
        except NotRecoveredError as error:
            self.outcome.problems.append(f"after {point}: {error}")
            return
        times = {"answer_ms": recovery.answer_ms, "backlog_ms": recovery.backlog_ms}
        self.journal.note("recovered", point=point, **times)
        self.outcome.recoveries.setdefault(point, []).append(recovery)

    def await_barriers(self, sessions: Sequence[str]) -> None:
        """Wait until a barrier was called in each session: then its agents are in their places."""
        for session in sessions:
            key = NAMESPACE.partition(partition_of(session, PARTITIONS)).session(session).barriers
            is_called = partial(self.deployment.ask, key, "EXISTS", key)
            until(is_called, f"{key} exists", PLACES_S_MAX)

    def drain(self) -> None:
        """Let everything finish after the faults; nothing may be left waiting."""
        self.fleet.look()
        self.journal.note("finish")
        (self.directory / "finish").touch()
        deadline_ms = now_ms() + FINISH_S_MAX * 1000
        for slot in self.fleet.of(*SENDERS):
            code = slot.wait(max(1.0, (deadline_ms - now_ms()) / 1000))
            if code:
                self.outcome.problems.append(f"{slot.name} did not finish: {code}")
        for slot in self.fleet.of(PERSON):
            slot.kill()
        while not is_empty(self.deployment) and now_ms() < deadline_ms:
            time.sleep(0.05)
        self.fleet.remove(*SENDERS, PERSON)
        self.outcome.problems += self.fleet.fallen
        self.fleet.fallen.clear()

    def end_workers(self) -> None:
        """SIGTERM all workers; they must exit with 0."""
        for slot in self.fleet.of(*WORKERS):
            code = slot.end()
            if code:
                self.outcome.problems.append(f"{slot.name} did not end well: {code}")

    def _show(self, kind: str) -> None:
        """Show the progress on a terminal."""
        if not sys.stderr.isatty():
            return
        left_s = max(0.0, self._until_ms - now_ms()) / 1000
        tally = self.outcome.tally
        line = f"{left_s:5.0f} s left, {tally.faults.total()} faults, {tally.kills} kills: {kind}"
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
