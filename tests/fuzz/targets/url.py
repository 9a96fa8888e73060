"""A server's URL: an address to connect to, or a ConfigError that never repeats the password."""

from __future__ import annotations

from fabric.errors import ConfigError
from fabric.ops.overview import redis_cli
from fabric.store.address import split
from fabric.store.channels import Router
from tests.fuzz.tokens import HOSTILE

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    *(b"redis+sentinel://", b"redis+cluster://", b",", b"sentinel_password="),
    *(b"redis://", b"rediss://", b"unix://", b"@", b":", b"/", b"?", b"&", b"=", b"#", b"%"),
    *(b"db=", b"protocol=", b"max_connections=", b"socket_timeout=", b"ssl_cert_reqs=", b"[::1]"),
    *(b"username=", b"password=", b"client_name=", b"retry=", b"decode_responses=", b"path="),
    *HOSTILE,
]

SECRET = "s3cr3t"


def seeds() -> list[bytes]:
    """Return URLs of each kind."""
    return [
        *(b"redis://127.0.0.1:6379/3", b"rediss://u@h:1/", b"unix:///run/redis.sock?db=2"),
        *(b"redis://@h?socket_keepalive=yes&db=3", b"redis://[::1]:700"),
        *(b"redis+sentinel://u@h:1,i/main/2", b"redis+cluster://h,i:2,[::1]:3"),
    ]


def run(data: bytes) -> None:
    """Read a URL as it is, and with a password in it; do not connect."""
    text = data.decode("utf-8", "surrogateescape")
    for url in (text, text.replace("://", f"://me:{SECRET}@", 1)):
        try:
            Router(url, "fuzz")
        except ConfigError as error:
            assert SECRET not in str(error), "a password is told"
            assert len(str(error)) < 1_000
            continue
        line, _ = redis_cli(url)
        _, _, login, *_ = split(url)
        if SECRET in login:
            assert SECRET not in line, "a password is shown"
