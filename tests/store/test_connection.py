"""A server's URL: what it may say, and that no word of a bad one is repeated."""

import pytest

from fabric.errors import ConfigError
from fabric.store.channels import Router


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:s3cret@host:6379/2",
        "redis://host?db=2&username=me&password=s3cret",
        "rediss://host?ssl_ca_certs=/etc/ca.pem&ssl_check_hostname=no",
        "unix://me:s3cret@/run/redis.sock?db=1",
    ],
)
def test_what_it_may_say(url: str) -> None:
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
def test_an_option_that_no_connection_takes_is_refused_before_it_is_dialled(options: str) -> None:
    """The driver would fail on it later, outside of every error that is looked for."""
    with pytest.raises(ConfigError, match=r"cannot be read|has an option") as caught:
        Router(f"redis://host?{options}", "test")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "http://h", "redis://[x", "redis://h:s3cret", "redis://h:1e9"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        Router(url, "test")
    assert "s3cret" not in str(caught.value)
