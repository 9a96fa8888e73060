"""What an error of the server says to people: a missing permission by name, and no secrets."""

import pytest
from redis import exceptions

from fabric.errors import NotAllowedError, UnsupportedServerError
from fabric.store.connection import translate
from fabric.store.redis import RedisStore
from tests.store.backend import RedisBackend

PASSWORD = "S3cretPw"


@pytest.mark.parametrize(
    "text",
    [
        f"unknown command 'AUTH', with args beginning with: '{PASSWORD}' ",
        f"unknown command `AUTH`, with args beginning with: `{PASSWORD}`, ",
        f"ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' '{PASSWORD}' ",
    ],
)
@pytest.mark.parametrize(
    "kind", [exceptions.ResponseError, exceptions.AuthenticationError, exceptions.ConnectionError]
)
def test_what_was_sent_is_never_shown(kind: type[Exception], text: str) -> None:
    for error in (kind(text), exceptions.ConnectionError(kind(text))):
        assert PASSWORD not in str(translate(error))


def test_a_command_that_the_server_lacks_is_named() -> None:
    error = translate(exceptions.ResponseError("unknown command 'XADD', with args beginning with"))
    assert isinstance(error, UnsupportedServerError)
    assert "XADD" in str(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("this user has no permissions to run the 'zrem' command or its subcommand", "+zrem"),
        ("User w has no permissions to run the 'config|get' command", "+config|get"),
        ("ACL failure in script: User w has no permissions to run the 'hdel' command", "+hdel"),
        ("The user executing the script can't run this command or subcommand", "a script"),
        ("No permissions to access a key", "a key of the fabric"),
        ("this user has no permissions to access one of the keys used as arguments", "a key"),
    ],
)
def test_a_missing_permission_is_named_and_is_no_wrong_password(text: str, expected: str) -> None:
    for kind in (exceptions.NoPermissionError, exceptions.ResponseError):
        error = translate(kind(text))
        assert isinstance(error, NotAllowedError)
        assert expected in str(error)
        assert "password" not in str(error)


async def test_a_user_without_a_permission_hears_which(real: RedisBackend) -> None:
    await real.call("ACL", "SETUSER", "few", "on", f">{PASSWORD}", "~*", "+@all", "-hgetall")
    store = RedisStore(real.url.replace("://", f"://few:{PASSWORD}@", 1))
    try:
        with pytest.raises(NotAllowedError, match=r"\+hgetall") as caught:
            await store.hashes(["fabric:{0}:s:agents"])
        assert PASSWORD not in str(caught.value)
    finally:
        await store.close()
        await real.call("ACL", "DELUSER", "few")
