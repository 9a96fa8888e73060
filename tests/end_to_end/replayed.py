"""Replay every session on a server from its log, and compare it with what the server holds."""

import asyncio
import re

from fabric.ops.comparison import Comparison, Difference
from fabric.store.redis import RedisStore
from tests.support.servers import RunningServer

_LOG = re.compile(r"(?P<namespace>.+):\{(?P<partition>[0-9]+)\}:(?P<session>[^:]+):log")


def check_sessions(server: RunningServer) -> None:
    """Fail, naming the keys, if any session differs from the replay of its log."""
    differences = asyncio.run(_differences(server))
    assert not differences, "\n".join(map(str, differences))


async def _differences(server: RunningServer) -> list[Difference]:
    found: list[Difference] = []
    for name in server.cli("KEYS", "*:log"):
        if "}::" in name:  # a log that was replaced, or a copy
            continue
        match = _LOG.fullmatch(name)
        assert match is not None, name
        store = RedisStore(server.url, match["namespace"])
        try:
            keys = store.namespace.partition(int(match["partition"])).session(match["session"])
            found += (await Comparison(store, keys).run()).differences
        finally:
            await store.close()
    return found
