"""Which server: the one in the settings, else the project's own private one."""

from __future__ import annotations

from typing import Protocol

from fabric.devserver import find


class _Secret(Protocol):
    def get_secret_value(self) -> str: ...


class _Target(Protocol):
    @property
    def redis_url(self) -> _Secret | None: ...


def resolve(settings: _Target) -> str | None:
    """Return the server's URL, None when none is named and the project's own is not running."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    server = find()
    return server.url if server is not None else None
