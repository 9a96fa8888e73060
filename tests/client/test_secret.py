"""A password in the server's URL is never shown: not in a repr, an error, or a log line."""

import logging
import traceback
from collections.abc import Callable

import pytest

from fabric.client.fabric import Fabric
from fabric.config import settings
from fabric.errors import FabricError
from tests.support.daemon import StartDaemon
from tests.support.proxy import Proxy
from tests.support.servers import RunningServer, flavours

PASSWORD = "hunter2-s3cret"

MakeProxy = Callable[[RunningServer], Proxy]


def shown(error: BaseException) -> str:
    """Return everything that a program could print of an error, with its causes."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


@pytest.fixture(params=flavours())
def locked(start: Callable[..., RunningServer], request: pytest.FixtureRequest) -> RunningServer:
    """Start a server that requires a password."""
    server = start(request.param)
    server.cli("CONFIG", "SET", "requirepass", PASSWORD)
    return server


def url(between: Proxy, password: str = PASSWORD) -> str:
    return f"redis://:{password}@127.0.0.1:{between.port}"


@pytest.mark.server
async def test_a_password_is_used_and_not_shown(
    locked: RunningServer, proxy: MakeProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    between = proxy(locked)
    async with Fabric.connect(url(between), session="s", emit_limit_ms=100, confirm_ms=0) as fabric:
        store = fabric.store
        async with fabric.agent("A") as agent:
            await agent.progress(1)
            between.refuse()
            with pytest.raises(FabricError) as caught:
                await agent.progress(2)
            between.accept()
            for thing in (fabric, store, fabric.settings, agent, agent.session, vars(store)):
                assert PASSWORD not in f"{thing!r} {thing}"
    assert PASSWORD not in shown(caught.value)
    assert PASSWORD not in caplog.text


@pytest.mark.server
@pytest.mark.parametrize("password", ["wrong-one", ""])
async def test_a_wrong_password_is_not_shown(
    locked: RunningServer,
    proxy: MakeProxy,
    password: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    between = proxy(locked)
    with pytest.raises(FabricError) as caught:
        async with Fabric.connect(url(between, password)):
            pass
    assert "password" in str(caught.value)
    assert caught.value.exit_code == 4
    assert "wrong-one" not in shown(caught.value)
    assert "wrong-one" not in caplog.text


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(FabricError) as caught:
        async with Fabric.connect(f"redis://user:{PASSWORD}@127.0.0.1:1", emit_limit_ms=0):
            pass
    assert caught.value.exit_code == 6
    assert PASSWORD not in shown(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        f"http://:{PASSWORD}@h",
        f"redis://:{PASSWORD}/x@h:1",
        f"redis://:{PASSWORD}@h:port",
        f"redis://[{PASSWORD}",
        f"redis://h:{PASSWORD}",
        PASSWORD,
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(address: str) -> None:
    with pytest.raises(FabricError) as caught:
        Fabric.connect(address)
    assert caught.value.exit_code == 2
    assert "redis://" in str(caught.value)
    assert PASSWORD not in shown(caught.value)
    assert PASSWORD.partition("-")[0] not in shown(caught.value)


def test_settings_hide_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FABRIC_REDIS_URL", f"redis://:{PASSWORD}@h")
    chosen = settings.load()
    assert PASSWORD not in f"{chosen!r} {chosen} {vars(chosen)}"
    with pytest.raises(FabricError) as caught:
        settings.load(lease_ms="soon")
    assert PASSWORD not in shown(caught.value)


@pytest.mark.slow
@pytest.mark.server
def test_a_worker_never_prints_the_password(
    locked: RunningServer, proxy: MakeProxy, daemon: StartDaemon
) -> None:
    between = proxy(locked)
    worker = daemon(url(between))
    worker.hear("taken by")
    between.refuse()
    worker.hear("ALARM")
    between.accept()
    worker.hear("works again")
    worker.terminate()
    assert worker.wait() == 0
    assert PASSWORD not in worker.said()

    stranger = daemon(url(between, "wrong-one"))
    assert stranger.wait() == 4
    assert "password" in stranger.said()
    assert "wrong-one" not in stranger.said()
