"""A settings file: settings, or a ConfigError that never repeats the password."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import gettempdir

from fabric.config.settings import Settings, load
from fabric.errors import ConfigError
from tests.fuzz.tokens import HOSTILE

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    *(f"{name} = ".encode() for name in Settings.__dataclass_fields__),
    *(b"\n", b"[", b"]", b'"', b"redis_url", b"redis://", b"[fail_fast]", *HOSTILE),
]

SECRET = "s3cr3t-of-the-url"
_HEAD = f'redis_url = "redis://me:{SECRET}@host"\n'.encode()


def seeds() -> list[bytes]:
    """Return good settings, and wrong ones."""
    return [b'namespace = "x"\npartitions = 4\nlease_ms = 900\n', b"block_ms = 1\n", b"x = [1\n"]


def run(data: bytes) -> None:
    """Load a file in which the server's URL holds a password."""
    # One file for each process; /tmp is mostly in memory.
    path = Path(gettempdir()) / f"fabric-fuzz-{os.getpid()}.toml"
    path.write_bytes(_HEAD + data)
    before = os.environ.get("FABRIC_CONFIG")
    os.environ["FABRIC_CONFIG"] = str(path)
    try:
        found = load()
    except ConfigError as error:
        assert SECRET not in str(error), "a password is told"
        assert len(str(error)) < 10_000
    else:
        assert SECRET not in repr(found), "a password is shown"
    finally:
        path.unlink()
        os.environ.pop("FABRIC_CONFIG")
        if before is not None:
            os.environ["FABRIC_CONFIG"] = before
