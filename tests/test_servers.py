"""The servers under test are the ones we say they are, with the Lua libraries our scripts need."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.servers import RunningServer, ServerMissingError, ServerStartError


def test_a_server_is_the_flavour_it_is_named_for(server: RunningServer) -> None:
    name, _, version = server.flavour.partition("-")
    major = version.partition(".")[0]  # a 7.2 from PATH may stand in for 7.0
    assert f"{name}_version:{major}." in server.cli("INFO", "server")


def test_a_server_listens_on_its_socket_only(server: RunningServer, server_url: str) -> None:
    assert server_url == f"unix://{server.socket}"
    assert server.cli("CONFIG", "GET", "port") == ["port", "0"]
    assert len(os.fsencode(server.socket)) <= servers.SOCKET_PATH_BYTES_MAX


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        ('return cjson.encode({1, "a"})', '[1,"a"]'),
        ('return (struct.unpack(">I4", struct.pack(">I4", 7)))', 7),
        ("return cmsgpack.unpack(cmsgpack.pack(7))", 7),
        ("return bit.band(7, 3)", 3),
    ],
)
def test_lua_has_the_libraries(server: RunningServer, script: str, reply: object) -> None:
    assert server.cli("EVAL", script, 0) == reply


@pytest.mark.parametrize("turn", [1, 2])
def test_a_server_is_empty_at_the_start_of_a_test(server: RunningServer, turn: int) -> None:
    assert server.cli("DBSIZE") == 0
    server.cli("SET", "left-behind", turn)


def test_a_killed_server_starts_again(server: RunningServer) -> None:
    first = server.pid
    server.kill()
    assert not server.alive
    with pytest.raises(ServerStartError, match="not running"):
        _ = server.pid
    server.start()
    assert server.pid != first
    assert server.cli("PING") == "PONG"


def test_a_stopped_server_is_started_for_the_next_test(server: RunningServer) -> None:
    server.stop()
    assert not server.alive


@pytest.mark.parametrize("flavour", servers.flavours())
def test_a_server_of_ones_own_keeps_its_data(
    start: Callable[..., RunningServer], flavour: str
) -> None:
    own = start(flavour, "--appendonly", "yes", "--appendfsync", "always")
    own.cli("SET", "kept", "yes")
    own.kill()
    own.start()
    assert own.cli("GET", "kept") == "yes"


def test_a_missing_flavour_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_TEST_SERVERS", "redis-9.9=/nowhere/redis-server")
    with pytest.raises(ServerMissingError, match="run scripts/servers") as caught:
        servers.start_server("redis-9.9")
    assert "/nowhere/redis-server" in str(caught.value)


@pytest.mark.server
def test_a_server_that_refuses_to_start_shows_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(servers, "short_directory", lambda: tmp_path / "gone")
    with pytest.raises(ServerStartError, match="did not start"):
        servers.start_server("redis-7.0")


def test_servers_named_by_hand_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_TEST_SERVERS", "valkey-9.0=/opt/valkey-server, redis-7.0=/opt/r")
    assert servers.flavours() == (*servers.FLAVOURS_REQUIRED, "valkey-9.0")
    assert servers.given_servers()["redis-7.0"] == Path("/opt/r")
    monkeypatch.setenv("FABRIC_TEST_SERVERS", "/opt/valkey-server")
    with pytest.raises(ValueError, match="is not name="):
        servers.given_servers()
