"""The world of one run: server, processes and agents, and the plan that is carried out in it."""

from __future__ import annotations

import copy
import random
from collections import Counter
from functools import partial

from fabric.client import mailbox
from fabric.config.settings import Settings
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace
from tests.simulation import troubles
from tests.simulation.actor import Actor
from tests.simulation.judge import all_judges
from tests.simulation.judge.judge import Violation
from tests.simulation.judged import JudgedStore
from tests.simulation.node import Node
from tests.simulation.plan import Line, Plan
from tests.simulation.replica import Worker
from tests.simulation.rulesets import RULESETS
from tests.simulation.server import SimulatedServer
from tests.simulation.timeline import Timeline

#: Sessions of a run; agents whose names come late in the alphabet work in the second one.
SESSIONS = ("demo", "other")

#: Seconds from the last fault of a plan to the first look whether everything goes on.
CALM_S = 60.0


class World:
    """All that there is in one run. `run.py` lets its time pass."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.timeline = Timeline()
        self.server = SimulatedServer(self.timeline)
        self.store = JudgedStore(self.server, all_judges(plan))
        self.settings = _settings(plan)
        self.partitions = plan.settings["partitions"]
        self.rules = RULESETS[plan.settings["rules"]]
        self.namespace = Namespace()
        self.chance = random.Random(f"{plan.seed}/world")
        self.counts: Counter[str] = Counter()
        self.actors: dict[str, Actor] = {}
        self.workers: dict[str, Worker] = {}
        #: How often a process of a name was started: each is a node of its own.
        self._started: Counter[str] = Counter()
        self._begun: list[Node] = []
        #: Failures that nobody has caught: defects, and what judges have said to workers.
        self.failures: list[Violation] = []
        #: The server has lost what it had acknowledged.
        self.is_forgetful = False
        #: When it did so last, s.
        self.forgot_s = 0.0
        # Pages as small as a plan says, so that they fill up; see `close`.
        self._page_max, mailbox.COUNT = mailbox.COUNT, plan.settings.get("page_max", mailbox.COUNT)
        self._set_up()

    def _set_up(self) -> None:
        for kind, group in (("orchestrators", ORCHESTRATORS), ("synthesizers", SYNTHESIZERS)):
            for number in range(1, self.plan.settings[kind] + 1):
                self.join(f"{group.removesuffix('s')}-{number}")
        for line in self.plan.lines:
            self.timeline.at(line.at_s, partial(self._befall, line))
            if line.verb == "forget":
                # What the server goes back to is what it held some time before.
                back_s = line.option("back", 1.0)
                self.timeline.at(max(0.0, line.at_s - back_s), partial(self._remember, line))
        self._remembered: dict[Line, tuple[object, object]] = {}

    def node(self, name: str) -> Node:
        """Begin a process."""
        self._started[name] += 1
        number = self._started[name]
        begun = Node(
            name if number == 1 else f"{name}/{number}",
            self.timeline,
            self.server,
            self.store,
            seed=self.plan.seed,
            counts=self.counts,
            report=self._report,
        )
        self._begun.append(begun)
        return begun

    def close(self) -> None:
        """End every process there was."""
        for node in self._begun:
            node.kill()
        mailbox.COUNT = self._page_max

    def join(self, name: str) -> None:
        """Start a worker, unless it is at work."""
        worker = self.workers.get(name)
        if worker is not None and worker.node.is_alive:
            return
        group = ORCHESTRATORS if name.startswith("orchestrator") else SYNTHESIZERS
        self.workers[name] = Worker(
            self.node(name), group, self.rules, self.settings, self.store.holder
        )

    def start(self, line: Line) -> None:
        """Start an agent, unless it is at work."""
        actor = self.actors.get(line.who)
        if actor is None:
            session = SESSIONS[line.who in ("E", "F")]
            actor = self.actors[line.who] = Actor(line.who, session, self.settings)
        if not actor.is_alive:
            if actor.node is not None:
                actor.node.kill()
            actor.start(self.node(line.who), line)

    def process(self, name: str) -> Node | None:
        """Return the process of a name, None when it does not run."""
        worker, actor = self.workers.get(name), self.actors.get(name)
        node = worker.node if worker is not None else actor.node if actor is not None else None
        return node if node is not None and node.is_alive else None

    def nodes(self) -> list[Node]:
        """Return all processes that run."""
        found = [worker.node for worker in self.workers.values()]
        found += [actor.node for actor in self.actors.values() if actor.node is not None]
        return [node for node in found if node.is_alive]

    def _befall(self, line: Line) -> None:
        """Let a line of the plan take place."""
        if line.who == "server":
            troubles.SERVER[line.verb](self, line)
        elif line.who in ("intruder", "operator"):
            troubles.OUTSIDE[line.who](self, line)
        elif line.verb in troubles.PROCESS:
            node = self.process(line.who)
            if node is not None:
                self.counts[line.verb] += 1
                troubles.PROCESS[line.verb](self, node, line)
        elif line.verb == "join":
            self.join(line.who)
        elif line.verb == "leave":
            if self.process(line.who) is not None:
                self.workers[line.who].leave()
                self.counts["leave"] += 1
        elif line.verb == "start":
            self.start(line)
        elif line.who in self.actors:
            self.actors[line.who].give(line)

    def _remember(self, line: Line) -> None:
        self._remembered[line] = self.server.copy(), copy.deepcopy(self.store.judges)

    def forget(self, line: Line) -> None:
        """Go back to what was remembered for this line: server and judges alike."""
        held, judges = self._remembered.pop(line)
        self.server.restore(held)  # type: ignore[arg-type] # what `copy` has given
        self.store.judges = judges  # type: ignore[assignment] # copied together with it
        for judge in self.store.judges:
            judge.went_back()
        self.is_forgetful = True
        self.forgot_s = self.timeline.now_s

    def _report(self, what: str, error: BaseException | None) -> None:
        if isinstance(error, Violation):
            raise error
        self.failures.append(Violation("nothing fails by itself", f"{what}: {error!r}"))


def _settings(plan: Plan) -> Settings:
    """What workers and agents run with; no file or environment has a say."""
    given = plan.settings
    return Settings(
        lease_ms=given["lease_ms"],
        heartbeat_ms=given["heartbeat_ms"],
        ingress_max=given["ingress_max"],
        partitions=given["partitions"],
        sessions_cached_max=given["cached_max"],
        batch_signals_max=given["batch_max"],
        block_ms=max(2_000, given["lease_ms"]),
    )
