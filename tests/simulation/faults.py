"""Faults, and events from outside: one function for each verb of the plan."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from fabric.core import liveness
from fabric.core.record import AgentRecord
from fabric.errors import ExhaustedError, OverloadedError
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, SessionKeys, partition_of
from fabric.store.value import SEQUENCE_MAX, parse_id
from fabric.wire.stored import pairs_of
from tests.simulation import intruder
from tests.simulation.judge.judge import Violation
from tests.simulation.judge.serving import oldest
from tests.simulation.judge.silence import UNDER_WAY_MS
from tests.simulation.network import at_once
from tests.simulation.node import Node
from tests.simulation.plan import Line

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Seconds that a restarted server takes to load its data.
LOADING_S = 0.2

#: For how long an agent has made no progress, and another one has waited for it, when a person must
#: have been asked: the rules that the plan has chosen need half of it, ms.
HANG_MS = 250_000

#: Longest time that a timer may be overdue when a plan has them checked, and nothing else happens.
OVERDUE_MS = 5_000

#: Entries that an intruder reads to send one of them again.
SEEN_MAX = 50


def _kill(world: World, node: Node, line: Line) -> None:
    """SIGKILL. Requests in flight may still arrive."""
    world.counts["requests of the killed"] += node.kill()


def _freeze(world: World, node: Node, line: Line) -> None:
    """SIGSTOP, and SIGCONT some seconds later."""
    node.loop.freeze()
    world.timeline.after(float(line.subject), node.loop.thaw)


def _lose(world: World, node: Node, line: Line) -> None:
    """Lose the next replies."""
    node.link.weather.lost_replies += int(line.subject)


def _late(world: World, node: Node, line: Line) -> None:
    """Delay the next requests; their sender's connection breaks at once."""
    node.link.weather.late_requests += int(line.subject)
    node.link.weather.late_s = line.option("within", 1.0)


def _repeat(world: World, node: Node, line: Line) -> None:
    """Deliver the next requests twice."""
    node.link.weather.repeated_requests += int(line.subject)
    node.link.weather.late_s = line.option("within", 1.0)


def _slow(world: World, node: Node, line: Line) -> None:
    """Slow down all requests for some seconds."""
    node.link.weather.slow_s = line.option("by", 1.0)
    world.timeline.after(float(line.subject), partial(setattr, node.link.weather, "slow_s", 0.0))


def _link(world: World, node: Node, line: Line) -> None:
    """Make a link far (`delay=`), lossy (`loss=`) or narrow (`rate=`) for some seconds."""
    weather = node.link.weather
    weather.delay_s, weather.loss = line.option("delay", 0.0), line.option("loss", 0.0)
    weather.rate = line.option("rate", 0.0)

    def heal() -> None:
        weather.delay_s = weather.loss = weather.rate = 0.0
        world.serving.disturbed(world.timeline.now_s)

    world.timeline.after(float(line.subject), heal)


def _cut(world: World, node: Node, line: Line) -> None:
    """Refuse connections for some seconds."""
    node.link.weather.is_cut = True
    world.counts["cut connections"] += node.link.break_all()
    world.timeline.after(float(line.subject), partial(setattr, node.link.weather, "is_cut", False))


def _cut_all(world: World, line: Line) -> None:
    """Break all connections; new ones work at once."""
    world.counts["cut connections"] += sum(node.link.break_all() for node in world.nodes())


def _cut_fleet(world: World, line: Line) -> None:
    """Cut off every agent for some seconds, but no worker: nobody at work may count as dead."""
    last_s = float(line.subject)
    nodes = {name: actor.node for name, actor in world.actors.items() if actor.is_alive}
    for node in nodes.values():
        if node is not None:
            _cut(world, node, line)
    if world.plan.is_quiet(line.at_s, line.at_s + last_s):
        fleets = _fleets(world, nodes)
        world.timeline.after(last_s - 0.01, partial(_check_fleets, world, nodes, fleets))


def _fleets(world: World, nodes: dict[str, Node | None]) -> dict[int, dict[str, int]]:
    """Return the incarnations of each partition's agents that were to be heard, if many were."""
    found: dict[int, dict[str, int]] = {}
    for session, agents in _at_work(world).items():
        fleet = found.setdefault(partition_of(session, world.partitions), {})
        fleet |= {
            name: one["incarnation"]
            for name, one in agents.items()
            if name in nodes
            and (one.get("idle_since_ms") or one["status"] == "active")
            and len(one.get("intervals", ())) >= 3
            and not one.get("quiet_until_ms")
            # Not frozen before, and the clock has not been put back since.
            and 0 <= world.server.clock_ms() - one["seen_ms"] <= 2 * world.settings.heartbeat_ms
        }
    return {partition: fleet for partition, fleet in found.items() if len(fleet) >= 3}


def _check_fleets(
    world: World, nodes: dict[str, Node | None], fleets: dict[int, dict[str, int]]
) -> None:
    now = _at_work(world)
    fresh = {
        partition_of(actor.session, world.partitions)
        for name, actor in world.actors.items()
        if actor.is_alive and actor.node is not nodes.get(name)
    }
    for partition, fleet in fleets.items():
        if world.is_forgetful or partition in fresh:
            continue  # an agent that has started since is not cut off
        world.counts["fleets cut off"] += 1
        for name, incarnation in fleet.items():
            actor = world.actors[name]
            is_there = now[actor.session].get(name, {}).get("incarnation") == incarnation
            if actor.is_alive and not is_there:
                detail = f"{actor.session}: {name} was cut off"
                raise Violation("nobody at work is called dead", detail)
            world.counts["cut off in a small session"] += actor.session.startswith("small-")
            _check_asked(world, partition, name, now[actor.session].get(name))


def _check_asked(world: World, partition: int, name: str, stored: dict[str, Any] | None) -> None:
    """Check that a person was asked about an agent that is past its limit and was not given up."""
    session, clock_ms = world.actors[name].session, world.server.clock_ms()
    names = world.namespace.partition(partition)
    lease, found = at_once(
        world.store.hashes([names.lease(ORCHESTRATORS), names.session(session).escalations])
    )
    if stored is None or int(lease.get(b"expires", b"0")) < clock_ms:
        return  # nobody serves the partition now
    agent = msgspec.convert(stored, AgentRecord)
    due_ms = liveness.silent_since_ms(None, agent) + liveness.limit_ms(agent, world.rules)
    # The end of a wait shortens the limit, and the timer of a longer one looks at it.
    due_ms = max(due_ms, agent.resumed_ms + world.rules.silence_ms_min)
    if due_ms + world.settings.lease_ms + UNDER_WAY_MS > clock_ms:
        return
    world.counts["cut off for too long"] += 1
    asked = [msgspec.json.decode(value) for value in found.values()]
    questions = [one for one in asked if one.get("subject") == "mass_silence"]
    if not any(one["state"] == "open" or one["decision"] == "wait" for one in questions):
        raise Violation("a person is asked about many", f"{session}: {name} {agent}")


def _check_hang(world: World, line: Line) -> None:
    """Check that a person was asked about an agent that hangs, and that another one waits for."""
    holder, waiter, resource = line.words
    if world.is_forgetful or holder not in world.actors:
        return
    session = world.actors[holder].session
    keys = world.namespace.partition(partition_of(session, world.partitions)).session(session)
    agents, claims, questions = (
        {name.decode(): msgspec.json.decode(value) for name, value in found.items()}
        for found in at_once(world.store.hashes([keys.agents, keys.claims, keys.escalations]))
    )
    began_ms = world.server.clock_ms() - HANG_MS
    log = at_once(world.store.entries(keys.log, b"-", b"+", 10**9))
    is_outage = any(b"OUTAGE" in f and int(f[-1]) > began_ms for _, f in log)
    held = [one for one in claims.values() if one["agent"] == holder and one.get("granted_ms")]
    waits = [one for one in claims.values() if one["agent"] == waiter and not one.get("granted_ms")]
    is_held = any(resource in one["writes"] and one["granted_ms"] < began_ms for one in held)
    is_waiting = any(resource in one["writes"] and one["asked_ms"] < began_ms for one in waits)
    if is_outage or not is_held or not is_waiting or agents[holder]["status"] != "active":
        return
    world.counts["agents that hang"] += 1
    asked = [one for one in questions.values() if one.get("subject") == "wedged"]
    if not any(one["about"] == holder and one["asked_ms"] > began_ms for one in asked):
        raise Violation("who hangs is asked about", f"{session}: {holder} {agents[holder]}")


def _check_holder(world: World, line: Line) -> None:
    """Check that an agent holds a resource by now."""
    holder, resource = line.words
    (found,) = at_once(world.store.hashes([_keys(world, world.actors[holder].session).claims]))
    for one in map(msgspec.json.decode, found.values()):
        if one["agent"] == holder and resource in one["writes"] and one.get("granted_ms"):
            return
    raise Violation("what the silent have goes on", f"{holder} has no {resource}: {found}")


def _check_drained(world: World, line: Line) -> None:
    """Check that what was sent until some seconds ago has been decided."""
    most_ms = float(line.subject) * 1000
    for partition in range(world.partitions):
        oldest_ms = oldest(world.store, partition)
        if oldest_ms is not None and world.server.clock_ms() - oldest_ms > most_ms:
            raise Violation("a backlog drains", f"{partition}: {oldest_ms}")


def _check_timers(world: World, line: Line) -> None:
    """Check that no timer is long overdue where somebody serves the partition."""
    clock_ms = world.server.clock_ms()
    for partition in range(world.partitions):
        names = world.namespace.partition(partition)
        (lease,) = at_once(world.store.hashes([names.lease(ORCHESTRATORS)]))
        due = at_once(world.store.due(partition, ORCHESTRATORS, clock_ms - OVERDUE_MS, 1))
        if due and int(lease.get(b"expires", b"0")) > clock_ms:
            raise Violation("timers are fired in time", f"{partition}: {due} at {clock_ms}")


def _at_work(world: World) -> dict[str, dict[str, Any]]:
    """Return the records of each session's agents that have not ended."""
    found = {}
    for session in sorted({actor.session for actor in world.actors.values()}):
        keys = world.namespace.partition(partition_of(session, world.partitions)).session(session)
        (stored,) = at_once(world.store.hashes([keys.agents]))
        agents = {name.decode(): msgspec.json.decode(value) for name, value in stored.items()}
        living = ("active", "blocked", "paused")
        found[session] = {name: one for name, one in agents.items() if one["status"] in living}
    return found


def _restart(world: World, line: Line) -> None:
    """Kill the server and start it again with its data."""
    _go_down(world, float(line.subject))


def _forget(world: World, line: Line) -> None:
    """Fail over to a server that lacks the latest writes."""
    _go_down(world, float(line.subject))
    world.forget(line)


def _go_down(world: World, last_s: float) -> None:
    server = world.server
    server.go_down()

    def load() -> None:
        server.is_down, server.refusal = False, "LOADING"

    world.timeline.after(last_s, load)
    world.timeline.after(last_s + LOADING_S, partial(setattr, server, "refusal", ""))


def _refuse(world: World, line: Line) -> None:
    """Answer every request with an error for some seconds."""
    world.server.refusal = line.words[1]
    world.timeline.after(float(line.subject), partial(setattr, world.server, "refusal", ""))


def _clock(world: World, line: Line) -> None:
    """Set the server's clock by some seconds."""
    world.server.skew_ms += int(line.subject) * 1000


def _group(world: World, line: Line) -> None:
    """XGROUP DESTROY of both groups of a partition."""
    for group in (ORCHESTRATORS, SYNTHESIZERS):
        world.server.destroy_group(world.namespace, int(line.subject), group)


def _epoch(world: World, line: Line) -> None:
    """Remove a partition's lease: the partition stops until somebody reseeds it."""
    partition = int(line.subject)
    for group in (ORCHESTRATORS, SYNTHESIZERS):
        if world.server.lose_epoch(world.namespace, partition, group):
            for judge in world.store.judges:
                judge.lost(partition, group)

    world.timeline.after(float(line.words[1]) + 1.0, partial(reseed, world, partition))


def reseed(world: World, partition: int) -> None:
    """Run `fabric doctor --reseed`; does nothing if the epoch is there."""
    for group in (ORCHESTRATORS, SYNTHESIZERS):
        world.server.reseed(world.namespace, partition, group)
        for judge in world.store.judges:
            judge.reseeded(partition, group)


def _counted(verb: Callable[[World, Line], None], name: str) -> Callable[[World, Line], None]:
    def befall(world: World, line: Line) -> None:
        if world.server.is_down and name in ("restart", "forget"):
            return
        world.counts[f"server {name}"] += 1
        verb(world, line)

    return befall


def _intrude(world: World, line: Line) -> None:
    """Write an entry into the ingress by hand."""
    if world.server.is_down or world.server.refusal:
        return
    if line.verb in ("exhaust", "delete"):
        (_exhaust if line.verb == "exhaust" else _delete)(world, line)
        return
    name = line.subject
    session = world.actors[name].session if name in world.actors else "demo"
    partition = partition_of(session, world.partitions)
    entry = None
    if line.verb == "again":
        log = _keys(world, session).log
        seen = at_once(world.store.entries(log, b"-", b"+", SEEN_MAX, newest_first=True))
        entry = intruder.again([(i, _sent(f)) for i, f in seen if f[1] == b"signal"], world.chance)
    if line.verb == "next":
        (stored,) = at_once(world.store.fields(_keys(world, session).agents, [name]))
        last = msgspec.json.decode(stored or b"{}").get("seq", 0)
        entry = intruder.following(name, session, last)
    for _ in range(int(line.option("times", 1))):
        sent = entry or intruder.intrude(line.verb, name, session, world.chance)
        world.counts["intrusions"] += 1
        # A storm heeds the limit of the ingress: it comes from a program, not from a person.
        _put(world, partition, sent, world.settings.ingress_max if line.words[1:] else 10**9)


def _keys(world: World, session: str) -> SessionKeys:
    return world.namespace.partition(partition_of(session, world.partitions)).session(session)


def _put(world: World, partition: int, entry: list[bytes], ingress_max: int = 10**9) -> bool:
    """Add an entry to the ingress, unless that is full or takes none; return whether it is in."""
    with suppress(OverloadedError, ExhaustedError):
        at_once(world.store.emit(partition, [entry], ingress_max))
        return True
    return False


def _delete(world: World, line: Line) -> None:
    """Write entries by hand, and delete one of them while a worker is at it."""
    session = world.actors[line.subject].session if line.subject in world.actors else "demo"
    names = world.namespace.partition(partition_of(session, world.partitions))
    key = world.chance.choice((names.signals, names.signals, names.results))
    stream = world.server.stream(key)
    kinds = ("garbage", "flood", "resolve", "flood", "unreadable")
    with suppress(ExhaustedError):
        ids = [
            stream.append(
                b"*",
                intruder.intrude(world.chance.choice(kinds), line.subject, session, world.chance),
                world.server.clock_ms(),
            )
            for _ in range(4)
        ]
        entry_id = parse_id(world.chance.choice(ids))
        world.server.wake()

        def delete() -> None:
            if world.server.is_down:
                return
            found = world.server.stream(key).between(b"%d-%d" % entry_id, b"%d-%d" % entry_id)
            for _, fields in found:
                world.server.stream(key).delete({entry_id})
                world.counts["entries deleted before their commit"] += 1
                for judge in world.store.judges:
                    judge.deleted(fields)

        world.timeline.after(world.chance.uniform(0.0, 0.01), delete)


def _exhaust(world: World, line: Line) -> None:
    """Write an entry by hand under one of the last ids of a stream."""
    session = world.actors[line.subject].session if line.subject in world.actors else "demo"
    names = world.namespace.partition(partition_of(session, world.partitions))
    key = world.chance.choice((names.signals, names.signals, names.results, names.dead))
    kinds = ("garbage", "blocked", "resolve", "stale")
    *before, entry = (
        intruder.intrude(world.chance.choice(kinds), line.subject, session, world.chance)
        for _ in range(6)
    )
    entry_id = b"%d-%d" % (SEQUENCE_MAX, SEQUENCE_MAX - world.chance.randrange(3))
    with suppress(ExhaustedError):  # somebody did that just now
        for one in before:
            world.server.stream(key).append(b"*", one, world.server.clock_ms())
        world.server.stream(key).append(entry_id, entry, world.server.clock_ms())
    world.counts["exhausted streams"] += 1
    world.server.wake()


def _sent(fields: list[bytes]) -> list[bytes]:
    """Return the fields that a logged signal was sent with."""
    pairs = pairs_of(fields)
    return [part for name, value in pairs if name not in (b"kind", b"ms") for part in (name, value)]


def decide(world: World, line: Line | None = None) -> int:
    """Answer every open question as a person, with one of its options; return how many."""
    if world.server.is_down or world.server.refusal:
        return 0
    answered = 0
    for session in sorted({actor.session for actor in world.actors.values()}):
        partition = partition_of(session, world.partitions)
        keys = world.namespace.partition(partition).session(session)
        (found,) = at_once(world.store.hashes([keys.escalations]))
        for name, value in found.items():
            question = msgspec.json.decode(value)
            if question["state"] != "open":
                continue
            options = question.get("options") or ["one"]
            if line is None and question.get("subject") == "mass_silence":
                options = ["give up"]  # all faults are over: whoever is silent is dead
            payload = {"escalation": name.decode(), "decision": world.chance.choice(options)}
            entry = [
                b"session", session.encode(), b"type", b"DECIDED", b"emitter", b"alice",
                b"payload", msgspec.json.encode(payload),
            ]  # fmt: skip
            answered += _put(world, partition, entry)
    world.counts["decisions"] += answered
    return answered


#: Faults of one process.
PROCESS: dict[str, Callable[[World, Node, Line], None]] = {
    "kill": _kill, "freeze": _freeze, "lose": _lose, "late": _late, "repeat": _repeat,
    "slow": _slow, "cut": _cut, "link": _link,
}  # fmt: skip

#: Faults of the server.
SERVER: dict[str, Callable[[World, Line], None]] = {
    name: _counted(verb, name)
    for name, verb in {
        "cut": _cut_all, "restart": _restart, "forget": _forget, "refuse": _refuse,
        "clock": _clock, "group": _group, "epoch": _epoch, "fleet": _cut_fleet,
        "hang": _check_hang, "holds": _check_holder, "drained": _check_drained,
        "timers": _check_timers,
    }.items()
}  # fmt: skip

#: Events from outside.
OUTSIDE: dict[str, Callable[[World, Line], object]] = {"intruder": _intrude, "operator": decide}
