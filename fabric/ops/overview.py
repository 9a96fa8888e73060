"""What a namespace contains: its sessions, workers and backlog; its keys, and how to read them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote

from fabric.client.session import Session
from fabric.core.limits import listed
from fabric.core.run import at_work, is_open
from fabric.core.session import SessionState, Table
from fabric.errors import NotFoundError
from fabric.store.address import split
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace, Partition, SessionKeys
from fabric.store.port import ClientStore
from fabric.store.state import PURGING
from fabric.store.value import whole_number

if TYPE_CHECKING:
    from fabric.store.redis import RedisStore

GROUPS = (ORCHESTRATORS, SYNTHESIZERS)

#: Type of a key → the command that reads it.
_READ = {"stream": "XRANGE {} - +", "hash": "HGETALL {}", "zset": "ZRANGE {} 0 -1 WITHSCORES"}


#: Option of a URL → the flag of redis-cli.
_TLS_FLAGS = {
    "ssl_ca_certs": "--cacert",
    "ssl_ca_path": "--cacertdir",
    "ssl_certfile": "--cert",
    "ssl_keyfile": "--key",
}


#: Marks the keys of a partition among those of one session.
SHARED = "the partition's, of all its sessions, never to be deleted"


class SessionSummary(NamedTuple):
    """A session, and the time of its last activity, ms since the epoch."""

    name: str
    partition: int
    active_ms: int


class Holder(NamedTuple):
    """The present or last holder of a partition's lease: when that expires, ms; if it is held."""

    group: str
    owner: str
    epoch: int
    expires_ms: int
    held: bool


class PartitionSummary(NamedTuple):
    """How many entries wait in a partition, and the workers that should handle them.

    `backlog` counts signals for the orchestrator, `results` those for the synthesizer. Both may
    include a few hundred that are handled and not trimmed yet.
    """

    number: int
    backlog: int
    results: int
    dead: int
    holders: list[Holder]


async def sessions(store: ClientStore, partitions: int) -> list[SessionSummary]:
    """Return all sessions, the most recently active first."""
    found = [
        SessionSummary(name.decode("utf-8", "replace"), number, active_ms)
        for number in range(partitions)
        for name, active_ms in await store.scores(store.namespace.partition(number).sessions)
    ]
    return sorted(found, key=lambda session: (-session.active_ms, session.name))


async def partition(store: ClientStore, number: int) -> PartitionSummary:
    """Return the state of one partition."""
    names = store.namespace.partition(number)
    holders = []
    for group in GROUPS:
        # The time first: so a lease that is renewed in between does not look expired.
        now_ms = await store.now_ms(names.lease(group))
        lease = await store.fields(names.lease(group), ["owner", "epoch", "expires"])
        if (owner := lease[0]) is not None:
            epoch, expires_ms = (whole_number(field) or 0 for field in lease[1:])
            held = bool(owner) and expires_ms > now_ms
            shown = owner.decode("utf-8", "replace")
            holders.append(Holder(group, shown, epoch, expires_ms, held))
    backlog, results = await store.length(names.signals), await store.length(names.results)
    return PartitionSummary(number, backlog, results, await store.length(names.dead), holders)


class Candidate(NamedTuple):
    """A session that can be deleted, if it is not open.

    It has the time of its last activity, ms, and the names of the agents that are at work in it or
    are awaited. `is_open` is also true before anybody has come to it.
    """

    name: str
    partition: int
    active_ms: int
    events: int
    at_work: list[str]
    is_closed: bool
    awaited: list[str]
    is_open: bool


async def candidates(
    store: ClientStore, partitions: int, names: Sequence[str], older_ms: int
) -> list[Candidate]:
    """Return the named sessions, or without names all that have ended and are old enough.

    Raises NotFoundError for a name that no session has.
    """
    known = {one.name: one for one in await sessions(store, partitions)}
    if unknown := [name for name in names if name not in known]:
        raise NotFoundError(f"no session {listed(unknown)} (fabric status --sessions)")
    now_ms = await store.now_ms()
    found = []
    for one in [known[name] for name in names] or [*known.values()]:
        keys = store.namespace.partition(one.partition).session(one.name)
        if not names and now_ms - one.active_ms < older_ms:
            continue
        candidate = await _candidate(store, keys, one)
        if names or not candidate.is_open:
            found.append(candidate)
    return found


async def _candidate(store: ClientStore, keys: SessionKeys, one: SessionSummary) -> Candidate:
    reader = Session(store, keys)
    agents, roster = Table(await reader.agents()), Table(await reader.roster())
    wanted = ["log", "closed_ms", PURGING.decode()]
    events, closed, purging = await store.fields(keys.meta, wanted)
    session = SessionState(
        name=one.name,
        closed_ms=whole_number(closed or b"0") or 0,
        # Without any event, somebody has deleted its keys.
        is_purging=purging is not None or (events is None and not agents),
        agents=agents,
        roster=roster,
    )
    return Candidate(
        *one,
        events=whole_number(events or b"0") or 0,
        at_work=at_work(session),
        is_closed=closed is not None,
        awaited=session.awaited(),
        is_open=is_open(session),
    )


class Key(NamedTuple):
    """A key, its Redis type, what it holds, and the redis-cli command that reads it."""

    name: str
    type: str
    meaning: str
    command: str = ""


async def redis_keys(
    store: RedisStore, url: str, partitions: int, session: tuple[Partition, SessionKeys] | None
) -> list[Key]:
    """Return the keys of a session, or without one those of the namespace. Raises NotFoundError."""
    if session is None:
        found = _of_namespace(store.namespace, partitions)
    else:
        found = await _of_session(Session(store, session[1]), *session)
    address, is_cluster = await store.address(), await store.is_cluster()
    program, _ = redis_cli(url, address, is_cluster=is_cluster)
    return [
        key._replace(command=f"{program} {_READ[key.type].format(shlex.quote(key.name))}")
        for key in found
    ]


def _of_namespace(names: Namespace, partitions: int) -> list[Key]:
    found = [Key(names.meta, "hash", "number of partitions, layout of the keys")]
    for group in GROUPS:
        found.append(Key(names.replicas(group), "zset", f"live {group}, until when, ms"))
        found.append(Key(names.workers(group), "hash", f"what {group} say of themselves"))
    for number in range(partitions):
        one = names.partition(number)
        found += [
            Key(one.signals, "stream", "ingress: signals as they were sent"),
            Key(one.results, "stream", "results on their way to the synthesizer"),
            Key(one.dead, "stream", "refused signals, with the reason (fabric dead)"),
            Key(one.lease(ORCHESTRATORS), "hash", "which orchestrator serves this partition"),
            Key(one.lease(SYNTHESIZERS), "hash", "which synthesizer serves this partition"),
            Key(one.sessions, "zset", "sessions by last activity, ms"),
            Key(one.deadlines, "zset", "the orchestrator's timers by due time, ms"),
            Key(one.timers(SYNTHESIZERS), "zset", "the synthesizer's timers by due time, ms"),
        ]
    return found


async def _of_session(session: Session, partition: Partition, keys: SessionKeys) -> list[Key]:
    await session.must_exist()
    agents = list(await session.agents())
    claims = (await session.claims()).values()
    resources = sorted({name for claim in claims for name in [*claim.writes, *claim.reads]})
    found = [
        Key(keys.log, "stream", "every accepted signal and every decision, with causes"),
        Key(keys.agents, "hash", "agent → status, percent, checkpoint …"),
        Key(keys.tasks, "hash", "task → progress"),
        Key(keys.dependencies, "hash", "dependency → producers, location, waiting agents"),
        Key(keys.claims, "hash", "claim → agent and resources, held or waiting"),
        Key(keys.barriers, "hash", "barrier → leader, members, arrivals"),
        Key(keys.escalations, "hash", "question → asker, decision"),
        Key(keys.synthesis, "hash", "part → its value and sources; how complete it all is"),
        Key(keys.revisions, "stream", "revisions of the synthesis: JSON Patches, with causes"),
        *(Key(keys.said(agent), "zset", f"parts with a statement of {agent}") for agent in agents),
        Key(keys.broadcast, "stream", "messages to everyone"),
        *(Key(keys.inbox(agent), "stream", f"messages to {agent}") for agent in agents),
        Key(keys.cursors, "hash", "agent → last messages it has read: inbox, broadcast"),
        Key(keys.incarnations, "hash", "agent → incarnation last handed out"),
        Key(keys.written, "hash", "path → the copies of the files in which it was written"),
        Key(keys.retired, "hash", "agent that is no longer kept → its last incarnation"),
        Key(keys.roster, "hash", "agent that the run expects → whether it has come"),
        Key(keys.meta, "hash", "number of events, clock, time opened, last fencing token"),
        Key(partition.signals, "stream", f"{SHARED}: signals not handled yet"),
        Key(partition.dead, "stream", f"{SHARED}: refused signals"),
    ]
    found += [Key(keys.lock(name), "hash", f"holder and token of {name}") for name in resources]
    line = "agents in line for {}, the next one first"
    found += [Key(keys.queue(name), "zset", line.format(name)) for name in resources]
    for name in await session.barriers():
        found += [
            Key(keys.barrier(name), "hash", f"state, leader and members of {name}"),
            Key(keys.arrived(name), "zset", f"agents that have arrived at {name}, when, ms"),
        ]
    return found


def redis_cli(
    url: str, address: str | None = None, *, is_cluster: bool = False
) -> tuple[str, bool]:
    """Return the redis-cli call for a URL, and whether a password was left out of it.

    redis-cli knows neither Sentinel nor lists of nodes: for those, `address` is one server.
    """
    scheme, kind, login, place, path, query = split(url)
    options = parse_qs(query)
    user, _, password = login.partition(":")
    user = unquote(user) or options.get("username", [""])[0]
    password = password or options.get("password", [""])[0]
    words = ["redis-cli", *(("-c",) if is_cluster else ())]
    if scheme == "unix":
        words += ["-s", unquote(f"/{path}")]
        if options.get("db", ["0"]) != ["0"]:
            words += ["-n", options["db"][0]]
    else:
        # With Sentinel, the path begins with the name of the service.
        database = path.partition("/")[2] if kind == "sentinel" else path
        number = options.get("db", [database.strip("/")])[0]
        server = f"{scheme}://{address or place or 'localhost'}"
        words += ["-u", f"{server}/{number}" if number else server]
    if user:
        words += ["--user", user]
    for option, flag in _TLS_FLAGS.items():
        if option in options:
            words += [flag, options[option][0]]
    if options.get("ssl_cert_reqs") == ["none"]:
        words.append("--insecure")
    return shlex.join(words), bool(password)
