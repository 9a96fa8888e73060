"""Settings, from flags, environment, project file and user file, in that order (design, section 2).

Every limit of the running parts has its unit in its name and its reason here; limits of what agents
may send are in `core/limits.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from fabric.errors import ConfigError

#: File that a project, or a user's configuration folder, may hold.
CONFIG_NAME = "fabric.toml"


class Settings(BaseSettings):
    """What the library and the workers run with. Flags are keyword arguments."""

    model_config = SettingsConfigDict(env_prefix="FABRIC_", extra="ignore", frozen=True)

    #: Where the server is; None: the project's own private server. May hold a password.
    redis_url: SecretStr | None = None
    namespace: str = Field("fabric", min_length=1, max_length=64)
    session: str | None = None
    agent: str | None = None
    stream: str | None = None

    #: Shards of sessions, fixed when a namespace is first used: one is right for one server.
    partitions: int = Field(1, ge=1, le=1024)
    #: Time after which a dead replica's partitions go to another. Short: a quick take-over; long:
    #: a slow server or a busy host is not taken for dead.
    lease_ms: int = Field(5_000, ge=200, le=600_000)
    #: Signals read and committed at a time. Above 512 nothing is gained (peers' measurements).
    batch_signals_max: int = Field(256, ge=1, le=512)
    #: Bytes of input read at a time; fewer signals are read when they are large.
    batch_bytes_max: int = Field(4_194_304, ge=65_536)
    #: Longest blocking read; must stay below any idle limit of proxies on the way.
    block_ms: int = Field(2_000, ge=10, le=30_000)
    #: Sessions kept in memory between batches; others are read again when they next speak.
    sessions_cached_max: int = Field(1_000, ge=1)
    #: Signals that may wait in one partition's ingress before emitters are held back.
    ingress_max: int = Field(100_000, ge=1)
    #: How long a signal is tried, over reconnects and back-pressure, before its emitter is told.
    emit_limit_ms: int = Field(30_000, ge=0)
    #: An agent that has said nothing for so long says that it is alive.
    heartbeat_ms: int = Field(10_000, ge=100)

    @field_validator("namespace")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not value.isprintable() or set(value) & set("{}: "):
            raise ValueError("no braces, colons, spaces or control characters")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the project's file, then the user's."""
        files = [TomlConfigSettingsSource(settings_cls, path) for path in config_files()]
        return (init_settings, env_settings, *files)


def config_files() -> list[Path]:
    """Return the configuration files there are, the project's before the user's."""
    named = os.environ.get("FABRIC_CONFIG")
    if named:
        return [Path(named)]
    here = Path.cwd()
    project = next(
        (
            folder / CONFIG_NAME
            for folder in (here, *here.parents)
            if (folder / CONFIG_NAME).is_file()
        ),
        None,
    )
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    user = Path(home, "fabric", CONFIG_NAME)
    return [path for path in (project, user) if path is not None and path.is_file()]


def load(**flags: Any) -> Settings:
    """Return the settings in force; flags that are None do not count. Raises ConfigError."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise ConfigError(
            f"setting {where}: {first['msg']} (flag --{where.replace('_', '-')}, "
            f"FABRIC_{where.upper()}, or {CONFIG_NAME})"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{CONFIG_NAME} cannot be read: {error}") from None
