"""Workers on a server whose user may do just what they send, and on one where something is missing.

docs/operations.md lists the rules; here they are compared with the code, and each is left out once.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fabric.core.rules import Rules
from fabric.ops.replay import rebuild
from fabric.store import permission, scripts
from fabric.store.keys import Namespace
from fabric.store.redis import RedisStore
from tests.support.in_process import settings
from tests.support.keyspace import add, results, rows
from tests.support.servers import ROOT, RunningServer, flavours
from tests.support.waiting import eventually
from workers import daemon, orchestrator, synthesizer
from workers.replica import Replica

WORKERS = ("orchestrator", "synthesizer")

#: What workers ask for and can do without.
OPTIONAL = {"client|setname", "hello", "info", "config|get", "cluster|info", "scan", "zscan"}

#: What a test takes away from workers while they work.
TAKEN_AWAY = ("zrem", "hdel", "zadd", "hset", "xadd", "xtrim", "xpending", "xgroup")


def commands() -> set[str]:
    """The commands that docs/operations.md lists for a worker's user."""
    text = Path(ROOT / "docs" / "operations.md").read_text()
    (block,) = re.findall(r"ACL SETUSER worker (.*?)\n```", text, re.DOTALL)
    return {rule[1:] for rule in block.split() if rule.startswith("+")}


def test_the_rules_in_the_docs_are_those_of_the_code() -> None:
    forms = (*permission.WORKERS, *permission.SYNTHESIZERS)
    sent = {scripts.command(*form.split()[:2]) for form in forms}
    assert commands() == sent | {"ping", "hsetnx"} | OPTIONAL


@asynccontextmanager
async def working(url: str, namespace: str, kinds: Iterable[str]) -> AsyncIterator[None]:
    """Run workers as their processes do."""
    chosen = settings(url, namespace=namespace)
    stop, stores, tasks = asyncio.Event(), [], []
    for kind in kinds:
        stores.append(RedisStore(url, namespace, name=kind))
        make = (
            orchestrator.factory(Rules(), chosen)
            if kind == "orchestrator"
            else synthesizer.factory(Rules(), chosen, {})
        )
        replica = Replica(stores[-1], daemon.GROUPS[kind], make, chosen, kind)
        tasks.append(asyncio.create_task(daemon.work(kind, stores[-1], replica, stop)))
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        for store in stores:
            await store.close()


def user(server: RunningServer, *rules: str) -> str:
    """Give the workers' user these rules; return its URL."""
    server.cli("ACL", "SETUSER", "worker", "reset", "on", ">pw", *rules)
    return server.url.replace("unix://", "unix://worker:pw@")


async def publishes(
    server: RunningServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A signal goes all the way: both workers work."""
    names = Namespace(namespace).partition(0)
    entry = {"session": "s", "type": "PARTIAL_RESULT", "emitter": "A"}
    add(server, names.signals, payload='{"partial": {"n": 1}}', **entry)
    revisions = names.session("s").revisions
    await eventually(lambda: rows(server, revisions), lambda: caplog.text)


async def is_named(command: str, times: int, caplog: pytest.LogCaptureFixture) -> None:
    """The log names a command, and a rule that allows it."""
    rule = re.compile(rf"ALARM .* {command.upper().replace('|', ' ')}\b.*ACL SETUSER … .*\+\w+")
    await eventually(
        lambda: len(rule.findall(caplog.text)) >= times, lambda: f"{command}: {caplog.text}"
    )
    assert "password" not in caplog.text


@pytest.mark.server
@pytest.mark.parametrize("flavour", flavours())
async def test_each_command_is_optional_or_named_before_anything_is_written(
    start: Callable[..., RunningServer], flavour: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(flavour)
    for number, left_out in enumerate(["", *sorted(commands())]):
        caplog.clear()
        namespace = f"n{number}"
        url = user(server, f"~{namespace}:*", *(f"+{one}" for one in commands() - {left_out}))
        kinds = WORKERS[1:] if left_out == "zrangebylex" else WORKERS
        async with working(url, namespace, kinds):
            if left_out in OPTIONAL | {""}:
                await publishes(server, namespace, caplog)
                continue
            await is_named(left_out, len(kinds), caplog)
            assert server.cli("KEYS", f"{namespace}:*") == [], left_out


@pytest.mark.server
@pytest.mark.parametrize("flavour", flavours())
async def test_a_permission_that_is_taken_away_for_a_while(
    start: Callable[..., RunningServer], flavour: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No commit is written by half: the log has each signal once, and replays exactly."""
    server = start(flavour)
    keys = Namespace().partition(0).session("s")
    url = user(server, "~fabric:*", *(f"+{one}" for one in commands()))
    async with working(url, "fabric", WORKERS):
        for number, command in enumerate(TAKEN_AWAY):
            results(server, 2 * number + 1)
            await is_handled(server, 2 * number + 1, caplog)
            caplog.clear()
            server.cli("ACL", "SETUSER", "worker", f"-{command}")
            results(server, 2 * number + 2)
            await is_named(command, 1, caplog)
            rules = (f"+{one}" for one in commands() if one.startswith(command))
            server.cli("ACL", "SETUSER", "worker", *rules)
        await is_handled(server, 2 * len(TAKEN_AWAY), caplog)
    logged = [int(row["seq"]) for row in rows(server, keys.log, type="PARTIAL_RESULT")]
    assert logged == list(range(1, 2 * len(TAKEN_AWAY) + 1))
    store = RedisStore(server.url)
    await rebuild(store, keys)
    await store.close()


async def is_handled(server: RunningServer, count: int, caplog: pytest.LogCaptureFixture) -> None:
    """So many signals are in the log."""
    log = Namespace().partition(0).session("s").log
    await eventually(
        lambda: len(rows(server, log, type="PARTIAL_RESULT")) >= count, lambda: caplog.text
    )
