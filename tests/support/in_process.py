"""An orchestrator inside the test's own process, on a real server."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fabric.config.settings import Settings, load
from fabric.core.rules import Rules
from fabric.store.keys import ORCHESTRATORS
from fabric.store.redis import RedisStore
from fabric.wire.record import rules_digest, rules_document
from tests.support.daemon import LEASE_MS
from workers import orchestrator
from workers.daemon import DEFAULT_RULES
from workers.replica import Replica

_numbers = itertools.count(1)


def settings(url: str, **flags: Any) -> Settings:
    """Return settings for a test: short leases, short blocking reads."""
    return load(**{"redis_url": url, "lease_ms": LEASE_MS, "block_ms": 200, **flags})


@asynccontextmanager
async def serving(
    url: str, *, rules: Rules | None = None, name: str | None = None, **flags: Any
) -> AsyncIterator[Replica]:
    """Run an orchestrator; drain it on exit."""
    chosen = settings(url, **flags)
    store = RedisStore(url, chosen.namespace, name="test-orchestrator")
    make = orchestrator.factory(rules or Rules(), chosen)
    digest = rules_digest(rules_document(rules or Rules())) or DEFAULT_RULES
    name = name or f"replica-{next(_numbers)}"
    replica = Replica(store, ORCHESTRATORS, make, chosen, name, rules=digest, build="test")
    stop = asyncio.Event()
    running = asyncio.create_task(replica.run(stop))
    try:
        yield replica
    finally:
        stop.set()
        await running
        await store.close()
