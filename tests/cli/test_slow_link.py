"""Large messages over a slow link: all are read, however long a reply takes."""

import json
from collections.abc import Iterator

import pytest
import redis

from tests.support.proxy import Proxy
from tests.support.servers import RunningServer
from tests.support.shell import Shell
from tests.support.waiting import until

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
    yield from _linked(server, request.param)


@pytest.fixture
def far(session: str, server: RunningServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """Fill the session's log; return a URL that leads to it over a slow link."""
    payload = f'{{"partial":{{"text":"{"x" * MESSAGE_BYTES}"}}}}'
    with redis.Redis.from_url(server.url) as client:
        client.config_set("client-output-buffer-limit", "normal 64mb 0 0")
        for number in range(MESSAGES):
            sent = {"session": session, "emitter": f"A{number}", "type": "PARTIAL_RESULT"}
            client.xadd("fabric:{0}:signals", {**sent, "payload": payload})
        until(lambda: not client.xlen("fabric:{0}:signals"), "all are decided")
    yield from _linked(server, request.param)


def _linked(server: RunningServer, bytes_a_second: int) -> Iterator[str]:
    link = Proxy(server)
    link.bytes_a_second = bytes_a_second
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


@pytest.mark.slow
@pytest.mark.parametrize("far", [SLOW], indirect=True)
def test_the_log_is_shown_and_explained(shell: Shell, far: str) -> None:
    reading = shell.start("tail", "--json", FABRIC_REDIS_URL=far)
    out, err = reading.communicate(b"", READ_SECONDS_MAX)
    rows = [json.loads(line) for line in out.splitlines()]
    assert sum(one["type"] == "PARTIAL_RESULT" for one in rows) == MESSAGES, err
    for words in (["A1"], ["A1", "--until", "1:00"]):
        told = shell.start("why", *words, "--json", FABRIC_REDIS_URL=far)
        out, err = told.communicate(b"", READ_SECONDS_MAX)
        assert json.loads(out), err
