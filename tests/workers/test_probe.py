"""/healthz and /readyz of a worker."""

import http.client
import json
import socket

import pytest

from tests.support.daemon import StartDaemon
from tests.support.servers import RunningServer
from tests.support.waiting import until


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body else {}
    except OSError:
        return 0, {}
    finally:
        connection.close()


def test_live_and_ready(server: RunningServer, daemon: StartDaemon, port: int) -> None:
    worker = daemon(server.url, "--name", "one", "--health-port", str(port))
    until(lambda: ask(port, "/readyz")[1].get("partitions") == [0], worker.said)
    assert ask(port, "/healthz?verbose") == ask(port, "/readyz")
    assert ask(port, "/readyz")[0] == 200
    assert ask(port, "/readyz", "HEAD") == (200, {})
    assert ask(port, "/other")[0] == 404
    assert ask(port, "/readyz", "POST")[0] == 404
    with socket.create_connection(("127.0.0.1", port)) as rude:
        rude.sendall(b"x" * 100_000)
        assert ask(port, "/healthz")[0] == 200, "one that talks nonsense disturbs nobody"


def test_without_a_server_it_is_live_and_not_ready(
    server: RunningServer, daemon: StartDaemon, port: int
) -> None:
    worker = daemon(server.url, "--name", "one", "--health-port", str(port))
    until(lambda: ask(port, "/readyz")[0] == 200, worker.said)
    server.kill()
    until(lambda: ask(port, "/readyz")[0] == 503, worker.said)
    assert ask(port, "/healthz")[0] == 200


def test_a_port_in_use_stops_no_worker(
    server: RunningServer, daemon: StartDaemon, port: int
) -> None:
    with socket.socket() as taken:
        taken.bind(("", port))
        taken.listen()
        worker = daemon(server.url, "--name", "one", "--health-port", str(port))
        worker.hear("taken by one")
        assert f"no answers on port {port}" in worker.said()
