"""One run: execute the plan, then wait without faults until everything has drained."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from fabric.client.message import read
from fabric.store.keys import SessionKeys, partition_of
from fabric.wire.stored import fields_of
from tests.simulation import faults
from tests.simulation.actor import Actor, Shown
from tests.simulation.judge.cuts import Cuts
from tests.simulation.judge.delivery import check_all_shown, check_heard
from tests.simulation.judge.ending import check_nothing_is_held, check_replay, unsettled
from tests.simulation.judge.judge import Violation
from tests.simulation.judge.questions import check_questions
from tests.simulation.judge.signals import Signals
from tests.simulation.judge.synthesis import Syntheses
from tests.simulation.judge.times import check_times
from tests.simulation.network import Weather, at_once
from tests.simulation.plan import Line, Plan
from tests.simulation.timeline import SpinError
from tests.simulation.world import CALM_S, World

#: Seconds between two looks at whether everything has drained.
LOOK_S = 15.0

#: Longest time for draining, s: the longest wait of a plan, then the longest silence.
DRAIN_S_MAX = 3_600.0


@dataclass
class Result:
    """The result of a run. `violation` is empty when all invariants held."""

    plan: Plan
    violation: str = ""
    detail: str = ""
    simulated_s: float = 0.0
    steps: int = 0
    commits: int = 0
    checks: int = 0
    signals: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    #: Digest of everything that the server held at the end.
    digest: str = ""


def run(plan: Plan) -> Result:
    """Execute a plan and check it. The same plan gives the same result, byte for byte."""
    result = Result(plan)
    random.seed(plan.seed)  # the workers' jitter
    world = World(plan)
    with _listening(world):
        try:
            _carry_out(world)
            _drain(world)
            asyncio.run(_judge(world))
        except Violation as violation:
            result.violation, result.detail = violation.invariant, str(violation)
        except SpinError as error:
            result.violation, result.detail = "nothing spins", str(error)
        finally:
            world.close()
    _sum_up(world, result)
    return result


def _carry_out(world: World) -> None:
    world.timeline.run(world.plan.end_s)
    _check_failures(world)


def _drain(world: World) -> None:
    """End all faults, start missing processes, and let every agent finish and end."""
    timeline = world.timeline
    # Servers come back by themselves; clocks stay as they are.
    timeline.run(timeline.now_s + CALM_S)
    while world.server.is_down or world.server.refusal:
        timeline.run(timeline.now_s + CALM_S)
    for node in world.nodes():
        node.loop.thaw()
        node.link.weather = Weather()
    for partition in range(world.partitions):
        faults.reseed(world, partition)
    for kind in ("orchestrator", "synthesizer"):
        if not any(world.process(name) for name in world.workers if name.startswith(kind)):
            world.join(f"{kind}-1")
    timeline.run(timeline.now_s + CALM_S)
    _check_waits(world)
    _check_holders(world)
    _check_times(world)
    for name in sorted(world.actors):
        world.actors[name].give(Line(timeline.now_s, name, "complete"))
    deadline_s = timeline.now_s + DRAIN_S_MAX
    while what := _left(world):
        if timeline.now_s > deadline_s:
            raise Violation("everything drains", what)
        faults.decide(world)
        timeline.run(timeline.now_s + LOOK_S)
        _check_failures(world)


def _left(world: World) -> str:
    """Return what is not finished, or ""."""
    for name, actor in world.actors.items():
        if actor.is_alive:
            return f"{name} is busy with {actor.doing} since {actor.since_s:.3f} s"
    for partition in range(world.partitions):
        if what := unsettled(world.store, partition, world.server.clock_ms()):
            return what
    for session in sorted({actor.session for actor in world.actors.values()}):
        keys = _keys(world, session)
        (agents,) = at_once(world.store.hashes([keys.agents]))
        for agent, value in agents.items():
            status = msgspec.json.decode(value)["status"]
            if status in ("active", "blocked", "paused"):
                return f"{agent.decode()} counts as {status}"
    return ""


def _check_waits(world: World) -> None:
    """Check that after a minute without faults, every wait has a reason in the server's records."""
    for actor in world.actors.values():
        line = actor.doing
        if not actor.is_alive:
            continue
        keys = _keys(world, actor.session)
        _check_grants(world, actor, keys)
        is_ended = _status(world, actor, keys) in ("completed", "failed", "dead")
        if line is None or line.verb != "wait" or is_ended:
            continue  # an agent that another signal has ended gets no more messages
        found, barriers = at_once(world.store.hashes([keys.dependencies, keys.barriers]))
        record = msgspec.json.decode(found.get(line.subject.encode(), b"{}"))
        in_force = [
            one
            for one in map(msgspec.json.decode, barriers.values())
            if one["state"] in ("gathering", "integrating")
        ]
        # An agent that a barrier counts as arrived stays paused after its wait has ended.
        is_held = any(
            actor.name in one.get("arrived", {}) or actor.name in one.get("held", [])
            for one in in_force
        )
        if record.get("status") == "resolved" and not is_held:
            raise Violation(
                "no waiter is forgotten", f"{actor.name} since {actor.since_s:.3f} s: {line}"
            )


def _check_times(world: World) -> None:
    """Check that nothing stands beyond its time, and that endless waits are named."""
    for session in sorted({actor.session for actor in world.actors.values()}):
        keys, now_ms = _keys(world, session), world.server.clock_ms()
        at_once(check_questions(world.store, keys, now_ms, world.rules.grace_ms))
        at_once(check_times(world.store, keys, now_ms))


def _check_grants(world: World, actor: Actor, keys: SessionKeys) -> None:
    """Check that agents hold what they believe they hold: they have read what was taken away."""
    (found,) = at_once(world.store.hashes([keys.claims]))
    claims = [msgspec.json.decode(value) for value in found.values()]
    held = {one.get("token") for one in claims if one["agent"] == actor.name}
    for grant in actor.grants:
        # An agent that was declared dead is not told; the fencing token keeps it out.
        status = _status(world, actor, keys)
        if grant.is_current and grant.token not in held and status in ("active", "blocked"):
            raise Violation(
                "a grant is what the server says", f"{actor.name} believes in token {grant.token}"
            )


def _check_holders(world: World) -> None:
    """Check that after a server went back, agents know what they hold by its records, and ask for.

    A RELEASE in the lost history must not leave its sender with what it does not know of.
    """
    if not world.is_forgetful or any(line.who == "intruder" for line in world.plan.lines):
        return
    for actor in world.actors.values():
        if not actor.is_alive or (actor.doing is not None and actor.doing.verb != "idle"):
            continue
        keys = _keys(world, actor.session)
        (found,) = at_once(world.store.hashes([keys.claims]))
        for claim in map(msgspec.json.decode, found.values()):
            if claim["agent"] == actor.name:
                raise Violation("a holder knows what it holds", f"{actor.name}: {claim}")
        world.counts["holders compared after a loss"] += 1


def _status(world: World, actor: Actor, keys: SessionKeys) -> str:
    (value,) = at_once(world.store.fields(keys.agents, [actor.name]))
    return str(msgspec.json.decode(value or b"{}").get("status", ""))


def _check_failures(world: World) -> None:
    if world.failures:
        raise world.failures[0]


async def _judge(world: World) -> None:
    """Check everything that the server holds at the end."""
    for judge in world.store.judges:
        if isinstance(judge, Syntheses):
            await judge.compare(world.store, world.chance)
        if isinstance(judge, Cuts):
            judge.check_gone(world.server, world.partitions)
    for session in sorted({actor.session for actor in world.actors.values()}):
        keys = _keys(world, session)
        await check_nothing_is_held(world.store, keys)
        await check_replay(world.store, keys)
    gone = {name for one in world.store.judges if isinstance(one, Cuts) for name in one.ever_gone}
    for actor in world.actors.values():
        if actor.session in gone:
            continue  # what it was told, and what it has said, is deleted
        if not world.is_forgetful:
            if actor.wrong:
                raise Violation(*actor.wrong[0])
            await _check_completed(world, actor)
        await _check_delivery(world, actor)


async def _check_completed(world: World, actor: Actor) -> None:
    """Check that the log has each COMPLETED that has returned without an error."""
    log = await world.store.entries(_keys(world, actor.session).log, b"-", b"+", 10**9)
    accepted = set()
    for _, flat in log:
        fields = fields_of(flat)
        if fields[b"kind"] == b"signal" and fields[b"type"] == b"COMPLETED":
            accepted.add((fields[b"emitter"].decode(), int(fields.get(b"incarnation", b"0"))))
    for incarnation in actor.completed:
        if (actor.name, incarnation) not in accepted:
            raise Violation(
                "an end that was confirmed is in the log", f"{actor.name}, {incarnation}"
            )


async def _check_delivery(world: World, actor: Actor) -> None:
    if world.is_forgetful and actor.lives[-1].ended_s <= world.forgot_s:
        return  # it ended before it could read the replacement
    keys = _keys(world, actor.session)
    for number, key in enumerate((keys.inbox(actor.name), keys.broadcast)):
        sent: list[Shown] = []
        cut = [one.cut.get(key, []) for one in world.store.judges if isinstance(one, Cuts)]
        left = await world.store.entries(key, b"-", b"+", 10**9)
        for entry_id, flat in [*cut[0], *left]:
            fields = fields_of(flat)
            # A confirmation goes to the verb that waits for it, and nowhere else.
            if not read((entry_id, flat), to_everyone=bool(number)).is_confirmation:
                sent.append((entry_id, fields[b"cause"], fields[b"type"]))
        lives = [(life.began[number], life.shown[number]) for life in actor.lives]
        who = f"{actor.name} {key}"
        if world.is_forgetful:
            check_all_shown(who, lives, sent)
        else:
            check_heard(who, lives, sent)


def _keys(world: World, session: str) -> SessionKeys:
    partition = partition_of(session, world.partitions)
    return world.namespace.partition(partition).session(session)


def _sum_up(world: World, result: Result) -> None:
    result.simulated_s = world.timeline.now_s
    result.steps, result.commits = world.timeline.steps, world.store.commits
    result.checks = sum(worker.checks for worker in world.workers.values())
    result.counts = dict(world.counts)
    for judge in world.store.judges:
        if isinstance(judge, Signals):
            result.signals = judge.accepted + judge.refused + judge.repeated
    made = hashlib.blake2b(digest_size=8)
    for key, (kind, value) in sorted(world.server.keys.items()):
        content = (value.ids, value.fields) if kind == "stream" else value
        made.update(f"{key} {kind} {content}\n".encode())
    result.digest = made.hexdigest()


@contextmanager
def _listening(world: World) -> Iterator[None]:
    """Treat an internal error that workers or agents log as a defect."""

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.exc_info:
                return
            error = record.exc_info[1]
            if isinstance(error, Violation):
                world.failures.append(error)
                return
            text = f"{record.getMessage()}: {error!r}"
            world.failures.append(Violation("nothing fails by itself", text))

    logger, ear = logging.getLogger("fabric"), Ear(level=logging.ERROR)
    before = logger.level, logger.propagate
    logger.addHandler(ear)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(ear)
        logger.level, logger.propagate = before
