"""Replay every session on a server from its log, and compare it with what the server holds."""

import asyncio
import re

from fabric.ops.comparison import Comparison, Difference
from fabric.store.redis import RedisStore
from tests.support.keyspace import client
from tests.support.servers import RunningServer

#: The last entry and the length of each log when it was compared, by server and key.
_compared: dict[tuple[str, str], object] = {}

_LOG = re.compile(r"(?P<namespace>.+):\{(?P<partition>[0-9]+)\}:(?P<session>[^:]+):log")


def check_sessions(server: RunningServer, *, again: bool = False) -> None:
    """Fail, naming the keys, if any session differs from the replay of its log.

    A session whose log is as it was when it was last compared is compared only `again`: one server
    gets a session from each of a hundred tests.
    """
    differences = asyncio.run(_differences(server, again))
    assert not differences, "\n".join(map(str, differences))


async def _differences(server: RunningServer, again: bool) -> list[Difference]:
    found: list[Difference] = []
    for name, last in _logs(server).items():
        if "}::" in name:  # a log that was replaced, or a copy
            continue
        if not again and _compared.get((server.url, name)) == last:
            continue
        _compared[server.url, name] = last
        match = _LOG.fullmatch(name)
        assert match is not None, name
        store = RedisStore(server.url, match["namespace"])
        try:
            keys = store.namespace.partition(int(match["partition"])).session(match["session"])
            found += (await Comparison(store, keys).run()).differences
        finally:
            await store.close()
    return found


def _logs(server: RunningServer) -> dict[str, object]:
    """Return the id of the last entry of each log, and its length."""
    with client(server) as asking:
        names: list[bytes] = asking.execute_command("KEYS", "*:log")
        asked = asking.pipeline(transaction=False)
        for name in names:
            asked.xinfo_stream(name)
        told = asked.execute()
    return {
        name.decode(): (one["last-generated-id"], one["length"])
        for name, one in zip(names, told, strict=True)
    }
