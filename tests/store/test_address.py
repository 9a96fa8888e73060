"""Server URLs: what each is parsed into, and errors that never repeat a part of the URL."""

from pathlib import Path

import pytest
from redis.asyncio.connection import SSLConnection

from fabric.errors import ConfigError
from fabric.store.address import parse, redacted
from fabric.store.channels import Router


def test_sentinels() -> None:
    found = parse("redis+sentinel://me:p%40w@one:26000,[::1],two/my%20own/3", "x")
    assert found.hosts == (("one", 26000), ("::1", 26379), ("two", 26379))
    assert found.service == "my own"
    assert (found.options["username"], found.options["password"]) == ("me", "p@w")
    assert found.options["db"] == 3
    assert found.options["protocol"] == 2
    assert not {"host", "port"} & set(found.options)
    # The password is for the servers that have the data.
    assert found.sentinel_options == {"client_name": "x"}


def test_sentinels_have_passwords_and_tls_of_their_own(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    own = f"sentinel_username=u&sentinel_password=p&ssl_ca_certs={ca}"
    found = parse(f"rediss+sentinel://:a@b@one/s?{own}", "x")
    assert found.options["password"] == "a@b"
    assert found.options["connection_class"] is SSLConnection
    assert found.sentinel_options == {
        "client_name": "x", "username": "u", "password": "p", "ssl": True, "ssl_ca_certs": str(ca)
    }  # fmt: skip
    assert not any(option.startswith("sentinel_") for option in found.options)


def test_a_cluster() -> None:
    found = parse("redis+cluster://:pw@one,two:7000?socket_keepalive=yes", "x")
    assert not found.service
    assert found.hosts == (("one", 6379), ("two", 7000))
    assert found.options["password"] == "pw"
    assert found.options["socket_keepalive"] is True


def test_a_server() -> None:
    for url in ("redis://host:1/2", "rediss://host", "unix:///tmp/r.sock?db=1"):
        found = parse(url, "x")
        assert not found.hosts
        assert not found.service


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://host",
        "redis+sentinel://host",
        "redis+sentinel://host/",
        "redis+sentinel://a,,b/s",
        "redis+sentinel://a:port/s",
        "redis+sentinel://a:65536/s",
        "redis+sentinel://a#b/s",
        "redis+cluster://",
        "redis+cluster://a,b]:1",
        "redis+cluster://a,[::1",
        "redis+cluster://a,::1",
        "redis+other://host/s",
        "unix+sentinel://host/s",
        "redis+cluster:host",
        "redis://:hunter2@host:port",
        "redis+sentinel://:hunter2@host:port/s",
        "redis+cluster://:hunter2@host:port",
        "redis://host?no_such_option=hunter2",
        "redis+sentinel://host/s?no_such_option=hunter2",
        "redis+sentinel://host/s?sentinel_no_such_option=hunter2",
        "redis+cluster://host?no_such_option=hunter2",
        "redis://host?max_connections=hunter2",
    ],
)
def test_a_url_that_cannot_be_read(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Router(url, "x")
    assert "redis+sentinel://" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_url_as_it_may_be_shown() -> None:
    url = "redis+sentinel://me:p@w@one:1,two:2/service/3?sentinel_password=x"
    assert redacted(url) == "redis+sentinel://one:1,two:2/service/3"


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:s3cret@host:6379/2",
        "redis://host?db=2&username=me&password=s3cret",
        "rediss://host?ssl_check_hostname=no",
        "unix://me:s3cret@/run/redis.sock?db=1",
    ],
)
def test_options_that_are_allowed(url: str) -> None:
    Router(url, "test")


@pytest.mark.parametrize(
    "options",
    [
        "s3cret=1",
        "db=s3cret",
        "protocol=3",
        "retry=s3cret",
        "decode_responses=yes",
        "connection_class=s3cret",
        "credential_provider=s3cret",
        "redis_connect_func=s3cret",
        "ssl_ca_certs=s3cret",
    ],
)
def test_an_option_that_no_connection_takes_is_refused_before_connecting(options: str) -> None:
    """The driver would fail on it later, with errors that we do not handle."""
    with pytest.raises(ConfigError, match=r"cannot be read|has an option") as caught:
        Router(f"redis://host?{options}", "test")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster", "rediss+sentinel"])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"])
def test_a_file_that_is_not_there_is_named(scheme: str, option: str, tmp_path: Path) -> None:
    path = tmp_path / "nope.pem"
    with pytest.raises(ConfigError, match=f"{option}={path}: No such file") as caught:
        Router(f"{scheme}://:s3cret@host/0?ssl_password=s3cret&{option}={path}", "test")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_that_holds_no_certificate_is_named(option: str, tmp_path: Path) -> None:
    path = tmp_path / "empty.pem"
    path.write_text("no certificate")
    with pytest.raises(ConfigError, match=f"TLS is not possible: .*{option}={path}"):
        Router(f"rediss://:s3cret@host?{option}={path}", "test")


@pytest.mark.parametrize("url", ["unix://", "unix://run/redis.sock", "unix://me:s3cret@"])
def test_a_socket_without_a_path_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="unix:///") as caught:
        Router(url, "test")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("", "http://h", "redis://[x", "redis://h:s3cret", "redis://h:1e9"),
        *("redis://h/s3cret", "redis://h/1/2", "redis://h/-1", "rediss://h//1", "redis://h/0x1"),
        *("redis+sentinel://h/s/s3cret", "redis+cluster://h/s3cret"),
    ],
)
def test_anything_but_a_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        Router(url, "test")
    assert "s3cret" not in str(caught.value)
