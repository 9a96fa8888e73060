"""The world of one run: server, processes and agents, and the plan that they execute."""

from __future__ import annotations

import copy
import random
from collections import Counter
from functools import partial

from fabric.client import mailbox
from fabric.config.settings import Settings
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace
from tests.simulation import faults
from tests.simulation.actor import Actor
from tests.simulation.generate import SMALL
from tests.simulation.judge import all_judges
from tests.simulation.judge.claims import Claims
from tests.simulation.judge.judge import Violation
from tests.simulation.judge.serving import LOOK_S, Serving
from tests.simulation.node import Node
from tests.simulation.observed_store import ObservedStore
from tests.simulation.plan import Line, Plan
from tests.simulation.replica import Worker
from tests.simulation.rulesets import RULESETS
from tests.simulation.server import SimulatedServer
from tests.simulation.timeline import Timeline
from workers import synthesizer

#: Sessions of a run; agents with names late in the alphabet work in the second one, and those of
#: SMALL in one of their own each.
SESSIONS = ("demo", "other")

#: Seconds from the last fault of a plan to the first look at whether everything works.
CALM_S = 60.0


class World:
    """Everything in one run. `run.py` drives its time."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.timeline = Timeline()
        self.server = SimulatedServer(self.timeline)
        self.store = ObservedStore(self.server, all_judges(plan))
        self.settings = _settings(plan)
        self.partitions = plan.settings["partitions"]
        self.rules = RULESETS[plan.settings["rules"]]
        self.namespace = Namespace()
        self.chance = random.Random(f"{plan.seed}/world")
        self.counts: Counter[str] = Counter()
        self.actors: dict[str, Actor] = {}
        self.workers: dict[str, Worker] = {}
        #: How often a process of a name was started: each start is a new node.
        self._started: Counter[str] = Counter()
        self._begun: list[Node] = []
        #: Uncaught exceptions: defects, and violations that judges raised inside workers.
        self.failures: list[Violation] = []
        self.serving = Serving(plan.settings["lease_ms"])
        #: Whether the server has lost acknowledged writes.
        self.is_forgetful = False
        #: When it did so last, s.
        self.forgot_s = 0.0
        # Pages as small as the plan says, so that there are several; see `close`.
        self._page_max, mailbox.COUNT = mailbox.COUNT, plan.settings.get("page_max", mailbox.COUNT)
        # A cache of one session keeps no record either: each batch reads what it needs again.
        self._cached_bytes_max = synthesizer.CACHED_BYTES_MAX
        if plan.settings["cached_max"] == 1:
            synthesizer.CACHED_BYTES_MAX = 1
        self._set_up()

    def _set_up(self) -> None:
        for kind, group in (("orchestrators", ORCHESTRATORS), ("synthesizers", SYNTHESIZERS)):
            for number in range(1, self.plan.settings[kind] + 1):
                self.join(f"{group.removesuffix('s')}-{number}")
        for line in self.plan.lines:
            self.timeline.at(line.at_s, partial(self._execute, line))
            if line.verb == "forget":
                # The server goes back to the state of some time before.
                back_s = line.option("back", 1.0)
                self.timeline.at(max(0.0, line.at_s - back_s), partial(self._remember, line))
        self._remembered: dict[Line, tuple[object, object]] = {}
        self._look()

    def _look(self) -> None:
        """Check that signals are decided, while a worker is healthy."""
        nodes = [one.node for name, one in self.workers.items() if name.startswith("orchestrator")]
        if any(node.is_healthy for node in nodes):
            self.serving.look(
                self.store, self.partitions, self.timeline.now_s, self.server.clock_ms()
            )
        else:
            self.serving.disturbed(self.timeline.now_s)
        self.timeline.after(LOOK_S, self._look)

    def _disturb(self, line: Line) -> None:
        """Note a line that does something to a worker or to the server; a link stays sick."""
        last_s = [float(word) for word in line.words if word.replace(".", "", 1).isdigit()]
        until_s = 0.0 if line.verb == "link" else max(last_s, default=0.0)
        self.serving.disturbed(self.timeline.now_s + until_s)

    def node(self, name: str) -> Node:
        """Start a process."""
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
        """End every process."""
        for node in self._begun:
            node.kill()
        mailbox.COUNT = self._page_max
        synthesizer.CACHED_BYTES_MAX = self._cached_bytes_max

    def join(self, name: str) -> None:
        """Start a worker, unless it runs."""
        worker = self.workers.get(name)
        if worker is not None and worker.node.is_alive:
            return
        group = ORCHESTRATORS if name.startswith("orchestrator") else SYNTHESIZERS
        self.workers[name] = Worker(
            self.node(name), group, self.rules, self.settings, self.store.holder
        )

    def start(self, line: Line) -> None:
        """Start an agent, unless it runs."""
        actor = self.actors.get(line.who)
        if actor is None:
            session = f"small-{line.who}" if line.who in SMALL else SESSIONS[line.who in ("E", "F")]
            actor = Actor(line.who, session, self.settings, self._over_s)
            self.actors[line.who] = actor
        if not actor.is_alive:
            if actor.node is not None:
                actor.node.kill()
            actor.start(self.node(line.who), line)

    def _over_s(self, session: str, token: int) -> float:
        """Return how long ago a grant ended, s; 0 if it has not, or if nobody knows."""
        found = [one.ended_ms for one in self.store.judges if isinstance(one, Claims)]
        ended_ms = found[0].get((session, token))
        if ended_ms is None or any(line.verb == "clock" for line in self.plan.lines):
            return 0.0
        return (self.server.clock_ms() - ended_ms) / 1000

    def process(self, name: str) -> Node | None:
        """Return the running process with a name, or None."""
        worker, actor = self.workers.get(name), self.actors.get(name)
        node = worker.node if worker is not None else actor.node if actor is not None else None
        return node if node is not None and node.is_alive else None

    def nodes(self) -> list[Node]:
        """Return all running processes."""
        found = [worker.node for worker in self.workers.values()]
        found += [actor.node for actor in self.actors.values() if actor.node is not None]
        return [node for node in found if node.is_alive]

    def _execute(self, line: Line) -> None:
        """Execute a line of the plan."""
        if line.who in ("server", "intruder") or line.who in self.workers:
            self._disturb(line)
        if line.who == "server":
            faults.SERVER[line.verb](self, line)
        elif line.who in ("intruder", "operator"):
            faults.OUTSIDE[line.who](self, line)
        elif line.verb in faults.PROCESS:
            node = self.process(line.who)
            if node is not None:
                self.counts[line.verb] += 1
                faults.PROCESS[line.verb](self, node, line)
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
        """Restore server and judges to the state that was saved for this line."""
        held, judges = self._remembered.pop(line)
        self.server.restore(held)  # type: ignore[arg-type] # what `copy` has given
        later = self.store.judges
        self.store.judges = judges  # type: ignore[assignment] # copied together with it
        for judge, after in zip(self.store.judges, later, strict=True):
            if isinstance(judge, Claims) and isinstance(after, Claims):
                judge.replaces(after)
        for judge in self.store.judges:
            judge.went_back()
        self.is_forgetful = True
        self.forgot_s = self.timeline.now_s

    def _report(self, what: str, error: BaseException | None) -> None:
        if isinstance(error, Violation):
            raise error
        self.failures.append(Violation("nothing fails by itself", f"{what}: {error!r}"))


def _settings(plan: Plan) -> Settings:
    """Return the settings of workers and agents; files and environment are ignored."""
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
