"""Which commands each part sends, read from the code; and commits of a user that lacks one."""

import ast
import inspect
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fabric.doctor import content, partition, server
from fabric.store import (
    address,
    channels,
    cluster,
    connection,
    permission,
    redis,
    scripts,
    sentinel,
    synthesis,
)
from fabric.store.connection import DeniedError
from fabric.store.keys import ORCHESTRATORS, SYNTHESIZERS, Namespace
from fabric.store.port import TYPES, Batch, ClientStore, WorkerStore
from fabric.store.redis import RedisStore
from tests.store.backend import LONG_MS, RedisBackend, commit, hold
from workers import handler, hook, loop, orchestrator

NAMES = Namespace().partition(0)
KEYS = NAMES.session("s")

#: Commands that have no form without an effect, or that only make a connection; and those that the
#: server may refuse: it is asked for something that the fabric can do without.
APART = {"hsetnx", "pexpire", "del"}
CONNECTION = {"asking", "cluster|slots", "role", "client|setname"}
OPTIONAL = {"hello", "info", "cluster|info", "config|get", "command|info", "client|setname", "role"}

#: The verbs of a batch, which the commit script gets as data.
VERBS = {verb.lower() for verb in TYPES}

#: Commands of the commit script that come when the commit is whole; and those that only repair.
AFTER = {"xgroup|setid", "xpending", "xack"}
REPAIRING = {"xgroup|create", "xdel", "xrevrange"}

CONTAINERS = {"XGROUP", "XINFO", "CLUSTER", "CONFIG", "COMMAND", "CLIENT"}


def sent(tree: ast.AST, known: set[str]) -> set[str]:
    """Return the commands that a part of the code names, as the rules for users name them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in known - CONTAINERS:
            found.add(str(node.value).lower())
        items = node.args if isinstance(node, ast.Call) else getattr(node, "elts", [])
        words = [str(item.value) if isinstance(item, ast.Constant) else "" for item in items]
        pairs = itertools.pairwise(words)
        found |= {f"{one}|{other}".lower() for one, other in pairs if one in CONTAINERS}
    return found


def closure(names: set[str], known: set[str]) -> set[str]:
    """Return what methods of RedisStore send, and what those send that they call."""
    methods: dict[str, ast.AST] = {
        method.name: method
        for module in (channels, redis)
        for cls in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(cls, ast.ClassDef) and cls.name in ("RedisStore", "Channels")
        for method in cls.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    found: set[str] = set()
    left, seen = set(names), set(names)
    while left:
        method = methods[left.pop()]
        found.update(sent(method, known))
        used = {node.attr for node in ast.walk(method) if isinstance(node, ast.Attribute)}
        words = {node.value for node in ast.walk(method) if isinstance(node, ast.Constant)}
        found.update(*(scripts.commands(verb) for verb in words & set(scripts.verbs())))
        left |= (used & methods.keys()) - seen
        seen |= left
    return found


def of(protocol: type) -> set[str]:
    return {name for name in dir(protocol) if not name.startswith("_")} - {"namespace"}


def names(forms: tuple[str, ...]) -> set[str]:
    return {scripts.command(*form.split()[:2]) for form in forms}


async def commands_of(real: RedisBackend) -> set[str]:
    return {row[0].decode().upper() for row in await real.call("COMMAND")}


async def test_workers_try_what_they_send(real: RedisBackend) -> None:
    """All that the methods of a worker's store send, and the scripts that they run."""
    found = closure(of(WorkerStore), await commands_of(real)) | VERBS
    assert found | {"eval", "evalsha"} == {
        *names(permission.WORKERS),
        *names(permission.PURGING),
        *names(permission.SYNTHESIZERS),
        "hsetnx",
        "info",  # a server that does not say which it is counts as another
    }
    # What only synthesizers send, orchestrators do not.
    text = "".join(map(inspect.getsource, (orchestrator, hook, handler, loop)))
    assert ".members(" not in text


def test_a_commit_tries_every_verb_of_a_batch() -> None:
    """It names them only where it tries them."""
    assert scripts.commands("commit") >= VERBS


async def test_agents_send_what_is_listed(real: RedisBackend) -> None:
    found = closure(of(ClientStore), await commands_of(real))
    assert found <= {*names(permission.NEEDED), "hsetnx"}
    assert names(permission.AGENTS) <= found


async def test_the_doctor_tries_what_any_part_sends(real: RedisBackend) -> None:
    known = await commands_of(real)
    modules: tuple[ModuleType, ...] = (
        *(address, channels, cluster, connection, redis, sentinel, synthesis),
        *(content, partition, server),
    )
    found = {one for module in modules for one in sent(ast.parse(inspect.getsource(module)), known)}
    found |= {command for verb in scripts.verbs() for command in scripts.commands(verb)}
    listed = names(permission.NEEDED) | names(permission.OTHERS) | APART | CONNECTION | OPTIONAL
    found -= {name.lower() for name in server.NEWER}  # asked for by COMMAND INFO only
    # READONLY is a word of an error, GET belongs to CONFIG. Without PING the doctor gets nowhere.
    assert found - listed == {"readonly", "get", "ping"}
    assert listed - found == {"eval", "evalsha"}  # in scripts.py


def test_only_these_modules_speak_to_a_server() -> None:
    root = Path(inspect.getfile(permission)).parents[2]
    speaking = {
        path.relative_to(root).as_posix()
        for folder in ("fabric", "workers")
        for path in (root / folder).rglob("*.py")
        if ".call(" in path.read_text()
    }
    assert {name.rpartition("/")[0] for name in speaking} == {"fabric/store", "fabric/doctor"}


@asynccontextmanager
async def user(real: RedisBackend, *rules: str) -> AsyncIterator[RedisStore]:
    """The store of a user with these rules."""
    await real.call("ACL", "SETUSER", "w", "reset", "on", ">pw", *rules)
    store = RedisStore(real.url.replace("://", "://w:pw@", 1))
    try:
        yield store
    finally:
        await store.close()
        await real.call("ACL", "DELUSER", "w")


async def state(real: RedisBackend) -> dict[str, Any]:
    """All keys but the lease's expiry, which a commit that failed may have renewed."""
    found = await real.dump()
    lease = dict(found[NAMES.lease(ORCHESTRATORS)][1])
    return {**found, NAMES.lease(ORCHESTRATORS): {**lease, b"expires": b""}}


def every_write(number: int) -> Batch:
    batch = Batch()
    batch.write("HSET", KEYS.agents, ("A", number))
    batch.write("HDEL", KEYS.agents, ("B",))
    batch.write("ZADD", NAMES.deadlines, (number, "s:x"))
    batch.write("ZREM", NAMES.deadlines, ("s:y",))
    batch.append(KEYS.log, f"{number}-0", ("a",), (1,))
    batch.append(NAMES.dead, "*", ("f",), ("v",))
    batch.trim(KEYS.inbox("A"), "1-0")
    return batch


@pytest.mark.parametrize(
    "command", sorted((VERBS | scripts.commands("commit")) - AFTER - REPAIRING)
)
async def test_a_permission_that_is_taken_away_leaves_no_half_commit(
    real: RedisBackend, command: str
) -> None:
    async with user(real, "~*", "+@all") as store:
        lease = await hold(store)
        await real.call("HSET", KEYS.agents, "B", "old")
        await real.call("ZADD", NAMES.deadlines, 5, "s:y")
        (entry_id,) = await store.emit(0, [[b"a", b"1"]], 10)
        before = await state(real)
        await real.call("ACL", "SETUSER", "w", f"-{command}")
        with pytest.raises(DeniedError, match=rf"script .*commit.*\+{command}"):
            await commit(store, lease, every_write(1), upto=entry_id)
        assert await state(real) == before
        await real.call("ACL", "SETUSER", "w", f"+{command}")
        await commit(store, lease, every_write(1), upto=entry_id)
        assert await store.hashes([KEYS.agents]) == [{b"A": b"1"}]


@pytest.mark.parametrize("command", sorted(AFTER))
async def test_a_commit_that_may_not_do_the_rest_is_whole(real: RedisBackend, command: str) -> None:
    withheld = command.partition("|")[0] if "6.2" in real.server.flavour else command
    async with user(real, "~*", "+@all") as store:
        lease = await hold(store)
        (entry_id,) = await store.emit(0, [[b"a", b"1"]], 10)
        taking = ("XREADGROUP", "GROUP", ORCHESTRATORS, "me", "STREAMS", NAMES.signals, ">")
        await store.call(*taking, at=NAMES.signals)  # so that there is something to acknowledge
        await real.call("ACL", "SETUSER", "w", f"-{withheld}")
        with pytest.raises(DeniedError, match=re.escape(f"+{command}")):
            await commit(store, lease, every_write(1), upto=entry_id)
        assert await store.hashes([KEYS.agents]) == [{b"A": b"1"}]
        await real.call("ACL", "SETUSER", "w", f"+{withheld}")
        lease = await hold(store)
        assert (lease.version, lease.committed) == (1, entry_id)


async def test_everything_that_is_refused_is_named_before_a_lease_is_taken(
    real: RedisBackend,
) -> None:
    async with user(real, "~*", "+@all", "-zrem", "-xadd", "-zrangebylex") as store:
        with pytest.raises(DeniedError) as caught:
            await hold(store)
        assert "XADD (script commit, emit, rebuild)" in str(caught.value)
        assert "ACL SETUSER … +zrem +xadd" in str(caught.value)
        with pytest.raises(DeniedError, match=r"\+zrem \+xadd \+zrangebylex$"):
            await store.beat(SYNTHESIZERS, "r", LONG_MS)
        assert await real.dump() == {}
        await real.call("ACL", "SETUSER", "w", "+zrem", "+xadd")
        lease = await hold(store)
        # It is tried again before the next lease, and a replica that cannot work does not beat.
        assert await store.beat(ORCHESTRATORS, "r", LONG_MS) == ["r"]
        await real.call("ACL", "SETUSER", "w", "-hdel")
        with pytest.raises(DeniedError, match=r"HDEL \(script commit\)"):
            await commit(store, lease, every_write(1))
        for _ in range(2):
            with pytest.raises(DeniedError, match=r"HDEL \(script commit\)"):
                await hold(store)
        with pytest.raises(DeniedError, match=r"HDEL \(script commit\)"):
            await store.beat(ORCHESTRATORS, "r", LONG_MS)


@pytest.mark.parametrize("verb", ["emit", "enroll"])
async def test_a_command_that_an_agents_script_lacks_is_named(
    real: RedisBackend, verb: str
) -> None:
    lacking = {"emit": "xadd", "enroll": "hset"}[verb]
    async with user(real, "~*", "+@all", f"-{lacking}") as store:
        doing = store.emit(0, [[b"a", b"1"]], 9) if verb == "emit" else store.enroll(0, "s", "A")
        with pytest.raises(DeniedError, match=rf"{lacking.upper()} \(script .*{verb}.*\+{lacking}"):
            await doing


async def test_a_user_that_may_not_run_scripts_hears_just_that(real: RedisBackend) -> None:
    async with user(real, "~*", "+@all", "-evalsha") as store:
        with pytest.raises(DeniedError, match=r"for the command EVALSHA.*\+evalsha$"):
            await store.emit(0, [[b"a", b"1"]], 10)


async def test_a_user_that_may_not_wait_for_replicas_hears_so(real: RedisBackend) -> None:
    """It is no outage: without WAIT every try would fail."""
    async with user(real, "~*", "+@all", "-wait") as store:
        waiting = RedisStore(real.url.replace("://", "://w:pw@", 1), wait_replicas=1)
        try:
            with pytest.raises(DeniedError, match=r"WAIT, which .* wait_replicas needs.*\+wait$"):
                await waiting.emit(0, [[b"a", b"1"]], 10)
        finally:
            await waiting.close()
        assert await store.length(NAMES.signals) == 1


async def test_a_key_that_the_user_may_not_use_is_named(real: RedisBackend) -> None:
    async with user(real, "+@all", "~fabric:*:signals", "~fabric:*:lease", "~fabric:meta") as store:
        lease = await hold(store)
        before = await state(real)
        with pytest.raises(DeniedError, match=r"the key fabric:\{0\}:s:agents"):
            await commit(store, lease, every_write(1))
        assert await state(real) == before


async def test_a_user_may_do_without_names_for_its_connections(real: RedisBackend) -> None:
    rules = ("~*", "+@all", "-client", "-hello", "-info", "-config", "-cluster")
    async with user(real, *rules) as store:
        assert await store.beat(ORCHESTRATORS, "r", LONG_MS) == ["r"]
