"""`fabric keys`: the redis-cli lines that show everything the fabric keeps."""

from __future__ import annotations

import shlex
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

import click

from fabric.cli.connect import Connection, Target, connected, run, url_of
from fabric.cli.options import json_option, on_target
from fabric.cli.output import print_json, print_lines
from fabric.client.session import Session
from fabric.store.address import parts
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace, Partition, SessionKeys

#: Type of a key → the command that reads it, before the key and after it.
_READ = {
    "stream": ("XRANGE", "- +"),
    "hash": ("HGETALL", ""),
    "zset": ("ZRANGE", "0 -1 WITHSCORES"),
}


class Key(NamedTuple):
    """A key, its type, and what is in it."""

    name: str
    type: str
    meaning: str


@click.command(short_help="Show the redis-cli lines that read everything.")
@click.argument("name", metavar="[SESSION]", required=False)
@on_target("session")
@json_option
def command(target: Target, name: str | None, as_json: bool) -> None:
    """Print one redis-cli line for each key, with what it holds.

    Without a session those of the whole namespace, with one those of the session. A password is
    never printed: redis-cli takes it from REDISCLI_AUTH.
    """
    found = run(lines(target, name or target.session))
    if as_json:
        print_json([{**key._asdict(), "command": line} for line, key in found])
        return
    if redis_cli(url_of(target))[1]:
        click.echo("fabric: put the password into REDISCLI_AUTH", err=True)
    width = max(len(line) for line, _ in found)
    print_lines(f"{line:<{width}}  # {key.meaning}" for line, key in found)


async def lines(target: Target, session: str | None) -> list[tuple[str, Key]]:
    """Return the redis-cli line for each key of a session, or of the namespace."""
    async with connected(target) as connection:
        store = connection.store
        program, _ = redis_cli(
            url_of(target), await store.address(), is_cluster=await store.is_cluster()
        )
        return [(f"{program} {_read(key)}", key) for key in await _keys(connection, session)]


async def _keys(connection: Connection, name: str | None) -> list[Key]:
    if name is None:
        return _of_namespace(connection)
    partition, keys = connection.keys(name)
    session = Session(connection.store, keys)
    await session.must_exist()
    claims = (await session.claims()).values()
    resources = sorted({name for claim in claims for name in [*claim.writes, *claim.reads]})
    return [
        *_of_session(partition, keys, list(await session.agents())),
        *_of_resources(keys, resources),
        *_of_barriers(keys, list(await session.barriers())),
    ]


def _of_namespace(connection: Connection) -> list[Key]:
    names: Namespace = connection.store.namespace
    found = [Key(names.meta, "hash", "number of partitions, layout of the keys")]
    found += [
        Key(names.replicas(group), "zset", f"live {group}, until when, ms")
        for group in (ORCHESTRATORS, SYNTHESIZERS)
    ]
    for number in range(connection.partitions):
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


def _of_session(partition: Partition, keys: SessionKeys, agents: list[str]) -> list[Key]:
    return [
        Key(keys.log, "stream", "every accepted signal and every decision, with causes"),
        Key(keys.agents, "hash", "agent → status, percent, checkpoint …"),
        Key(keys.tasks, "hash", "task → how far it is"),
        Key(keys.dependencies, "hash", "dependency → who makes it, where it is, who waits"),
        Key(keys.claims, "hash", "claim → who asked for which resources, held and waiting"),
        Key(keys.barriers, "hash", "barrier → who leads it, who is to arrive, who has"),
        Key(keys.escalations, "hash", "question → who asks, what was decided"),
        Key(keys.synthesis, "hash", "part → what is known of it; how complete it all is"),
        Key(keys.revisions, "stream", "what made the synthesis: JSON Patches, with causes"),
        *(Key(keys.said(agent), "zset", f"parts that {agent} has spoken of") for agent in agents),
        Key(keys.broadcast, "stream", "messages to everyone"),
        *(Key(keys.inbox(agent), "stream", f"messages to {agent}") for agent in agents),
        Key(keys.cursors, "hash", "agent → last messages it has read: inbox, broadcast"),
        Key(keys.incarnations, "hash", "agent → incarnation last handed out"),
        Key(keys.meta, "hash", "number of events, clock, time opened, last fencing token"),
        Key(partition.signals, "stream", "ingress: what the orchestrator has not handled yet"),
        Key(partition.dead, "stream", "refused signals, of this session and others"),
    ]


def _of_resources(keys: SessionKeys, resources: list[str]) -> list[Key]:
    locks = [
        Key(keys.lock(name), "hash", f"who holds {name}, under which token") for name in resources
    ]
    return locks + [
        Key(keys.queue(name), "zset", f"who waits for {name}, the next one first")
        for name in resources
    ]


def _of_barriers(keys: SessionKeys, barriers: list[str]) -> list[Key]:
    found = []
    for name in barriers:
        found.append(Key(keys.barrier(name), "hash", f"state, leader and members of {name}"))
        found.append(Key(keys.arrived(name), "zset", f"who has arrived at {name}, when, ms"))
    return found


def _read(key: Key) -> str:
    verb, end = _READ[key.type]
    return f"{verb} {shlex.quote(key.name)} {end}".rstrip()


def redis_cli(
    url: str, address: str | None = None, *, is_cluster: bool = False
) -> tuple[str, bool]:
    """Return how redis-cli is called for a URL, and whether a password was left out.

    It knows neither sentinels nor lists of nodes: for those, `address` is a server to speak to.
    """
    scheme, kind, login, place, path, query = parts(url)
    options = parse_qs(query)
    user, _, password = login.partition(":")
    user, password = (
        unquote(user) or options.get("username", [""])[0],
        password or options.get("password", [""])[0],
    )
    words = ["redis-cli", *(("-c",) if is_cluster else ())]
    if scheme == "unix":
        words += ["-s", unquote(f"/{path}")]
        if options.get("db", ["0"]) != ["0"]:
            words += ["-n", options["db"][0]]
    else:
        # With sentinels, the path begins with the name of the service.
        database = path.partition("/")[2] if kind == "sentinel" else path
        number = options.get("db", [database.strip("/")])[0]
        words += [
            "-u",
            f"{scheme}://{address or place or 'localhost'}" + (f"/{number}" if number else ""),
        ]
    if user:
        words += ["--user", user]
    return shlex.join(words), bool(password)
