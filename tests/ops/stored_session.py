"""A session on a server with every kind of log entry, and its comparison with the log."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fabric.core.rules import Rules
from fabric.ops.comparison import Comparison, Report
from fabric.store.redis import RedisStore
from tests.support.in_process import serving
from tests.support.keyspace import SIGNALS, add, is_settled, rows, session
from tests.support.servers import RunningServer
from tests.support.waiting import eventually

S = session("s")

#: Short enough that a test need not wait long for a timer.
RULES = Rules(undeclared_grace_ms=20)


def say(server: RunningServer, emitter: str, kind: str, payload: Any = None, **more: Any) -> None:
    """A signal by hand."""
    document = json.dumps(payload or {})
    add(server, SIGNALS, session="s", type=kind, emitter=emitter, payload=document, **more)


async def settled(server: RunningServer) -> None:
    await eventually(lambda: is_settled(server), "all is through")


async def write_session(server: RunningServer) -> None:
    """A session with all that a log can hold: refusals, restarts, waits, a timer."""
    say(server, "A", "STARTED", {"task": "t", "produces": ["schema"]}, stream="X", seq=1)
    say(server, "B", "BLOCKED", {"on": "schema"}, trace="00-a-b-01")
    say(server, "A", "PROGRESS", {"percent": 37.5, "partial": {"findings": 2}}, seq=2, hops=3)
    say(server, "A", "PROGRESS", {"percent": 37.5, "partial": {"findings": 2}}, seq=2)
    say(server, "A", "DEPENDENCY_RESOLVED", {"dependency_id": "schema"}, seq=3)
    say(server, "A", "COMPLETED", {"result": [1]}, seq=4)
    say(server, "A", "PROGRESS", {"percent": 1}, seq=5)
    say(server, "A", "STARTED", {}, incarnation=2, seq=1)
    say(server, "A", "PROGRESS", {"percent": 2}, incarnation=1, seq=9)
    say(server, "C", "BLOCKED", {"on": "nobody's"})
    await eventually(lambda: rows(server, S.log, type="TIMER"), "the timer has taken effect")
    for name in ("D", "E"):
        say(server, name, "INTENT", {"writes": ["f.py"]})
    say(server, "D", "RELEASE", {"resources": ["f.py"]})
    say(server, "E", "RELEASE", {"resources": ["f.py"]})
    say(server, "D", "INTENT", {"writes": ["g.py"]})
    say(server, "E", "INTENT", {"writes": ["g.py"]})
    say(server, "B", "INTEGRATION_REQUIRED", {"name": "m"})
    await settled(server)


@asynccontextmanager
async def reading(server: RunningServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url)
    try:
        yield store
    finally:
        await store.close()


async def compared(server: RunningServer) -> Report:
    async with reading(server) as store:
        return await Comparison(store, S).run()


async def compared_session(server: RunningServer) -> Report:
    """Such a session, and what replay says of it."""
    async with serving(server.url, rules=RULES):
        await write_session(server)
    return await compared(server)
