"""Large messages over a slow link: all are read, however long a reply takes."""

import pytest
import redis

from tests.support.proxy import Proxy
from tests.support.servers import RunningServer
from tests.support.shell import Shell

#: Messages, and bytes of each. One reply may not hold them all: READ_BYTES_MAX in store/redis.py.
MESSAGES, MESSAGE_BYTES = 12, 1_000_000

#: Bytes a second: the first reply takes longer than a reply without any progress may.
BYTES_A_SECOND = 2_000_000


@pytest.mark.slow
def test_an_agent_reads_all_its_messages(shell: Shell, session: str, server: RunningServer) -> None:
    shell.good("emit", "STARTED", "--confirm")
    inbox = f"fabric:{{0}}:{session}:inbox:A"
    payload = f'{{"text":"{"x" * MESSAGE_BYTES}"}}'
    with redis.Redis.from_url(server.url) as client:
        # A client that lets more than this pile up is cut off.
        client.config_set("client-output-buffer-limit", "normal 64mb 0 0")
        for number in range(2, MESSAGES + 2):
            fields = {"type": "NUDGE", "from": "B", "cause": "1-0", "payload": payload}
            client.xadd(inbox, fields, id=f"{number}-1")
    link = Proxy(server)
    link.bytes_a_second = BYTES_A_SECOND
    slow = {"FABRIC_REDIS_URL": f"redis://127.0.0.1:{link.port}"}
    try:
        rows = shell.good("inbox", "--json", **slow).json_lines
        assert [row["id"] for row in rows] == [f"{number}-1" for number in range(2, MESSAGES + 2)]
        assert shell.good("inbox", "--json", **slow).out == ""
    finally:
        link.close()
