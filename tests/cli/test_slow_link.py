"""Large messages over a slow link: all are read, however long a reply takes."""

import json
from collections.abc import Iterator

import pytest
import redis

from tests.support.proxy import Proxy
from tests.support.servers import RunningServer
from tests.support.shell import Shell

#: Messages, and bytes of each. No reply may hold them all: READ_BYTES_MAX in store/redis.py.
MESSAGES, MESSAGE_BYTES = 100, 1_000_000

#: Bytes a second of a slow link, and of one on which a reply takes longer than one without any
#: progress may.
SLOW, SLOWER = 12_000_000, 1_000_000

#: Seconds that all may take; only a failure takes that long.
READ_SECONDS_MAX = 400.0

IDS = [f"{number}-1" for number in range(2, MESSAGES + 2)]


@pytest.fixture
def slow(session: str, server: RunningServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """Fill A's inbox; return a URL that leads to it over a slow link."""
    inbox = f"fabric:{{0}}:{session}:inbox:A"
    payload = f'{{"text":"{"x" * MESSAGE_BYTES}"}}'
    with redis.Redis.from_url(server.url) as client:
        # A client that lets more than this pile up is cut off.
        client.config_set("client-output-buffer-limit", "normal 64mb 0 0")
        for entry_id in IDS:
            fields = {"type": "NUDGE", "from": "B", "cause": "1-0", "payload": payload}
            client.xadd(inbox, fields, id=entry_id)
    link = Proxy(server)
    link.bytes_a_second = request.param
    try:
        yield f"redis://127.0.0.1:{link.port}"
    finally:
        link.close()


@pytest.mark.slow
@pytest.mark.parametrize("slow", [SLOW, SLOWER], indirect=True)
def test_the_inbox_shows_all_messages(shell: Shell, slow: str) -> None:
    shell.good("emit", "STARTED", "--confirm")
    reading = shell.start("inbox", "--json", FABRIC_REDIS_URL=slow)
    out, err = reading.communicate(b"", READ_SECONDS_MAX)
    assert [json.loads(line)["id"] for line in out.splitlines()] == IDS, err
    assert shell.good("inbox", "--json", FABRIC_REDIS_URL=slow).out == ""
