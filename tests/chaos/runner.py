"""One run from its beginning to the evidence: start, faults, drain, collect."""

import random
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import cast, plan
from tests.chaos.collect import collect, is_empty
from tests.chaos.deployment import AWAY, Deployment
from tests.chaos.journal import Journal, now_ms
from tests.chaos.probe import NotRecoveredError, Probe, Recovery
from tests.chaos.process import CROWD, PERSON, SPEAKERS, WORKERS, Fleet
from tests.chaos.scene import Scene, Tally
from tests.chaos.standalone import Standalone

#: Pause between two faults of one deck, s.
PAUSE_S_MIN, PAUSE_S_MAX = 0.2, 1.5
#: After the faults, everybody must have finished within so long, s.
FINISH_S_MAX = 120.0
#: Time between two progress lines, s.
PROGRESS_S = 1.0


@dataclass
class Outcome:
    """What a run has come to, before its evidence is judged."""

    tally: Tally
    #: Point of measurement → recoveries.
    recoveries: dict[str, list[Recovery]] = field(default_factory=dict)
    #: What went wrong with the run itself, a line each.
    troubles: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Runner:
    """Runs one deployment for a time."""

    def __init__(
        self, deployment: Deployment, directory: Path, *, seed: int, minutes: float, rate: float
    ) -> None:
        self._deployment = deployment
        self._directory = directory
        self._seed = seed
        self._minutes = minutes
        self._rate = rate
        self._fleet = Fleet()
        self._outcome = Outcome(Tally())
        self._probe = Probe(deployment)
        self._journal = Journal(directory / "faults.jsonl")
        self._stop = threading.Event()

    def run(self) -> Outcome:
        """Run it, leave the evidence in the directory, and no process behind."""
        began = now_ms()
        try:
            self._deployment.start(self._directory)
            cast.workers(self._fleet, self._deployment, self._directory)
            for slot in self._fleet.slots:
                slot.start()
            # The workers first: who comes first decides how many partitions there are.
            self._measure("start")
            if self._outcome.troubles:
                return self._outcome
            cast.speakers(
                self._fleet,
                self._deployment,
                self._directory,
                seed=self._seed,
                rate=self._rate,
            )
            for slot in self._fleet.of(*SPEAKERS, PERSON):
                slot.start()
            self._trouble_all()
            self._drain()
            collect(self._deployment, self._directory)
        finally:
            self._stop.set()
            self._fleet.close()
            self._deployment.close()
        self._outcome.seconds = (now_ms() - began) / 1000
        return self._outcome

    def _trouble_all(self) -> None:
        """Play both decks until the time is over; each at least once to its end."""
        self._until = now_ms() + self._minutes * 60_000
        is_alone = isinstance(self._deployment, Standalone)
        side = threading.Thread(
            target=self._play, args=(plan.AGENTS if is_alone else plan.SPEAKERS, "agents")
        )
        side.start()
        try:
            self._play(plan.STANDALONE if is_alone else plan.WORKERS, "servers")
        finally:
            self._stop.set()
            side.join()

    def _play(self, deck: plan.Deck, whom: str) -> None:
        chance = random.Random(f"{self._seed}/{whom}")
        scene = Scene(self._deployment, self._fleet, chance, self._outcome.tally)
        is_measured = whom == "servers"
        for number, (is_first, kind, fault) in enumerate(plan.deal(deck, chance)):
            is_played = number and is_first and is_measured
            if self._stop.is_set() or (now_ms() > self._until and (is_played or not is_measured)):
                return
            self._journal.note("fault", kind=kind)
            scene.tally.faults[kind] += 1
            try:
                for point in fault(scene):
                    self._journal.note("point", point=point)
                    if is_measured:
                        self._measure(point)
            except AWAY as error:
                self._outcome.troubles.append(f"{kind}: {type(error).__name__}: {error}")
            if is_measured:
                self._fleet.look()
                self._show(kind)
            time.sleep(chance.uniform(PAUSE_S_MIN, PAUSE_S_MAX))

    def _measure(self, point: str) -> None:
        try:
            recovery = self._probe.recovery()
        except NotRecoveredError as error:
            self._outcome.troubles.append(f"after {point}: {error}")
            return
        self._journal.note("recovered", point=point, answer_ms=recovery.answer_ms,
                           backlog_ms=recovery.backlog_ms)  # fmt: skip
        self._outcome.recoveries.setdefault(point, []).append(recovery)

    def _drain(self) -> None:
        """The faults are over: everybody finishes, nothing is left waiting."""
        self._fleet.look()
        self._journal.note("finish")
        (self._directory / "finish").touch()
        deadline = now_ms() + FINISH_S_MAX * 1000
        for slot in self._fleet.of(*SPEAKERS):
            code = slot.wait(max(1.0, (deadline - now_ms()) / 1000))
            if code:
                self._outcome.troubles.append(f"{slot.name} did not finish: {code}")
        while not is_empty(self._deployment) and now_ms() < deadline:
            time.sleep(0.05)
        for slot in self._fleet.of(PERSON):
            slot.kill()
        for slot in self._fleet.of(*WORKERS):
            code = slot.end()
            if code:
                self._outcome.troubles.append(f"{slot.name} did not end well: {code}")
        self._outcome.troubles += self._fleet.fallen

    def _show(self, kind: str) -> None:
        """Say on a terminal how far it is."""
        if not sys.stderr.isatty():
            return
        left_s = max(0.0, self._until - now_ms()) / 1000
        tally = self._outcome.tally
        line = f"{left_s:5.0f} s left, {tally.faults.total()} faults, {tally.kills} kills: {kind}"
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()


__all__ = ["CROWD", "Outcome", "Runner"]
