"""A whole run: its stages, one after the other, each with its own evidence.

main       every kind of fault, for the requested time
founding   FLUSHALL: all data is lost, and the fabric starts anew (standalone)
clocks     the server's clock jumps, on a server that can start with a faked clock (standalone)
outages    nothing is decided for 90 s, agents at default limits: in long runs or alone (standalone)
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import clock, plan
from tests.chaos.collect import collect
from tests.chaos.deployment import Deployment, Standalone
from tests.chaos.faults.outage import OUTAGES
from tests.chaos.journal import now_ms
from tests.chaos.participants import Participants
from tests.chaos.process import BULK_SENDER, HOST, PERSON, RAW_SENDER, SENDERS, WORKERS, Fleet
from tests.chaos.roster import OUTAGE_SESSIONS, SURVIVORS
from tests.chaos.stage import Outcome, Stage, StartError

#: A server that can start with a faked clock: it uses the C library's allocator.
CLOCK_FLAVOUR = "redis-6.2"
#: Share of the run's time for each further stage.
SHARE = 0.05
#: Length of the outages, s: longer than an agent may be silent by default, which is 60 s.
OUTAGE_S = 90.0
#: Shorter runs leave the outages out: they take two minutes and more.
OUTAGE_MINUTES_MIN = 10


@dataclass(frozen=True)
class Wishes:
    """The options of a run."""

    seed: int
    minutes: float
    rate: float
    fsync: str
    flavour: str
    #: Source trees of the versions; agents run them by turns.
    trees: tuple[Path, ...]
    #: Whether all workers start with the first tree, and are replaced by the other's, and back.
    is_upgrade: bool = False
    #: Length of the outages, s, if they are the only stage.
    outage_s: float | None = None


class Runner:
    """Runs all stages on one deployment, the last one on a server of its own."""

    def __init__(self, deployment: Deployment, directory: Path, wishes: Wishes) -> None:
        self._deployment = deployment
        self._directory = directory
        self._wishes = wishes
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Run all stages; leave the evidence in the directory, and no process behind."""
        began = now_ms()
        if self._wishes.outage_s is None:
            self._all()
        else:
            self._deployment.close()  # each outage has servers of its own
            self._outages(self._wishes.outage_s)
        self._outcome.seconds = (now_ms() - began) / 1000
        return self._outcome

    def _all(self) -> None:
        fleet = Fleet()
        try:
            self._deployment.start()
            self._main(fleet)
            if self._has_all_stages():
                self._founding(fleet)
        finally:
            fleet.close()
            self._deployment.close()
        if self._has_all_stages() and clock.can_be_faked(CLOCK_FLAVOUR):
            self._clocks()
        if self._has_all_stages() and self._wishes.minutes >= OUTAGE_MINUTES_MIN:
            self._outages(OUTAGE_S)

    def _has_all_stages(self) -> bool:
        return isinstance(self._deployment, Standalone) and not self._wishes.is_upgrade

    def _stage(self, name: str, deployment: Deployment, fleet: Fleet) -> tuple[Stage, Participants]:
        wishes, directory = self._wishes, self._directory / name
        stage = Stage(deployment, fleet, directory, wishes.seed, self._outcome)
        participants = Participants(
            fleet,
            deployment,
            directory,
            seed=wishes.seed,
            rate=wishes.rate,
            trees=wishes.trees,
        )
        return stage, participants

    def _begin(
        self, stage: Stage, participants: Participants, *, has_defaults: bool = False
    ) -> None:
        participants.workers(has_defaults=has_defaults)
        if self._wishes.is_upgrade:
            for slot in stage.fleet.of(*WORKERS):
                slot.tree = self._wishes.trees[0]
        # The workers first: the first process to connect fixes the partition count.
        stage.start(*WORKERS)
        before = len(self._outcome.problems)
        stage.measure("start")
        if len(self._outcome.problems) > before:
            raise StartError(self._outcome.problems[-1])

    def _main(self, fleet: Fleet) -> None:
        stage, participants = self._stage("main", self._deployment, fleet)
        self._begin(stage, participants)
        adds = [participants.teams, participants.bulk_senders]
        if isinstance(self._deployment, Standalone):
            # These connect to one server only.
            adds += [participants.raw_senders, participants.rogue]
            if len(self._wishes.trees) == 1:  # the library of earlier versions closes no run
                adds.append(participants.mortals)
        for add in adds:
            add()
        stage.start(*SENDERS, PERSON)
        decks = (
            [(plan.UPGRADE, True), (plan.SENDERS, False)]
            if self._wishes.is_upgrade
            else plan.decks(self._deployment)
        )
        stage.inject_faults(decks, self._wishes.minutes)
        stage.drain()
        collect(self._deployment, stage.directory)
        if not self._has_all_stages():
            stage.end_workers()

    def _founding(self, fleet: Fleet) -> None:
        """FLUSHALL while workers keep what they have in memory, and senders go on."""
        stage, participants = self._stage("founding", self._deployment, fleet)
        stage.inject_faults([(plan.FOUNDING, True)], 0)
        participants.bulk_senders()
        participants.raw_senders()
        stage.start(BULK_SENDER, RAW_SENDER)
        stage.inject_faults([(plan.FOUNDING, True)], self._wishes.minutes * SHARE)
        # Agents that would wait for lost outputs are started anew.
        participants.teams()
        stage.start(HOST, PERSON)
        stage.inject_faults([(plan.WORKERS, True)], self._wishes.minutes * SHARE)
        stage.drain()
        collect(self._deployment, stage.directory)
        stage.end_workers()

    def _clocks(self) -> None:
        deployment, fleet = Standalone(CLOCK_FLAVOUR, self._wishes.fsync, is_faked=True), Fleet()
        stage, participants = self._stage("clocks", deployment, fleet)
        try:
            deployment.start()
            self._begin(stage, participants)
            for add in (participants.teams, participants.bulk_senders):
                add()
            stage.start(BULK_SENDER, HOST, PERSON)
            decks = [(plan.CLOCKS, True), (plan.AGENTS, False)]
            stage.inject_faults(decks, self._wishes.minutes * SHARE)
            stage.drain()
            stage.end_workers()
            collect(deployment, stage.directory)
        finally:
            fleet.close()
            deployment.close()

    def _outages(self, outage_s: float) -> None:
        """One outage of each kind at the same time, each on a server of its own.

        They begin together and end one after the other, so that each recovery is measured alone.
        """
        with ExitStack() as stack:
            stages = [self._before_outage(stack, kind, outage_s) for kind in OUTAGES]
            for stage in stages:
                stage.await_barriers(OUTAGE_SESSIONS)
                self._outcome.survivors += len(OUTAGE_SESSIONS) * len(SURVIVORS)
            ends = [stack.enter_context(ExitStack()) for _ in stages]
            for kind, stage, end in zip(OUTAGES, stages, ends, strict=True):
                assert isinstance(stage.deployment, Standalone)
                stage.journal.note("outage", kind=kind)
                self._outcome.tally.faults[f"outage: {kind}"] += 1
                end.enter_context(OUTAGES[kind](stage.deployment, stage.fleet))
            time.sleep(outage_s)
            for kind, stage, end in zip(OUTAGES, stages, ends, strict=True):
                end.close()
                stage.measure(f"{kind} for {outage_s:g} s")
            for stage in stages:
                stage.drain()
                collect(stage.deployment, stage.directory)
                stage.end_workers()

    def _before_outage(self, stack: ExitStack, kind: str, outage_s: float) -> Stage:
        """Start a server, and workers and agents with default settings."""
        deployment, fleet = Standalone(self._wishes.flavour, self._wishes.fsync), Fleet()
        stack.callback(deployment.close)
        stack.callback(fleet.close)
        deployment.start()
        name = f"outage-{kind.replace(' ', '-')}"
        stage, participants = self._stage(name, deployment, fleet)
        self._begin(stage, participants, has_defaults=True)
        participants.survivors(outage_s)
        stage.start(HOST)
        return stage
