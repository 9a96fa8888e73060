"""exhausted.lua: every result word."""

import pytest

from fabric.store.keys import Namespace
from fabric.store.value import SEQUENCE_MAX
from tests.store.backend import RedisBackend
from tests.store.lua import evaluate

NAMES = Namespace().partition(0)
STREAMS = [NAMES.signals, NAMES.results, NAMES.dead]


async def test_free(real: RedisBackend) -> None:
    await real.call("XADD", NAMES.signals, f"{SEQUENCE_MAX - 1}-{SEQUENCE_MAX}", "a", "1")
    await real.put(NAMES.results, "string")
    assert await evaluate(real, "exhausted", STREAMS, SEQUENCE_MAX) == [b"free"]


@pytest.mark.parametrize("key", STREAMS)
@pytest.mark.parametrize("sequence", [0, SEQUENCE_MAX - 5, SEQUENCE_MAX])
async def test_exhausted(real: RedisBackend, key: str, sequence: int) -> None:
    entry_id = await real.call("XADD", key, f"{SEQUENCE_MAX}-{sequence}", "a", "1")
    found = [b"exhausted", key.encode()]
    assert await evaluate(real, "exhausted", STREAMS, SEQUENCE_MAX) == found
    await real.call("XDEL", key, entry_id)
    assert await evaluate(real, "exhausted", STREAMS, SEQUENCE_MAX) == found
