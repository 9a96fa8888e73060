"""Settings, from flags, environment, project file and user file, in that order (design, section 2).

Every limit of the running parts has its unit in its name and its reason here, or in `defaults.py`
where the command line needs it too; limits of what agents may send are in `core/limits.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from fabric.config import defaults
from fabric.config.defaults import CONFIG_NAME
from fabric.errors import ConfigError


class Settings(BaseSettings):
    """What the library and the workers run with. Flags are keyword arguments."""

    model_config = SettingsConfigDict(
        env_prefix=defaults.ENV_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True
    )

    #: Where the server is; None: the project's own private server. May hold a password.
    redis_url: SecretStr | None = None
    namespace: str = defaults.NAMESPACE
    session: str | None = None
    agent: str | None = None
    stream: str | None = None

    #: None: as many as are right for the server, 1 or (on a cluster) 64.
    partitions: int | None = Field(None, ge=1, le=defaults.PARTITIONS_MAX)
    #: Time after which a dead replica's partitions go to another. Short: a quick take-over; long:
    #: a slow server or a busy host is not taken for dead. About the same for all of a namespace.
    lease_ms: int = Field(5_000, ge=200, le=600_000)
    #: Signals read and committed at a time. Above 512 nothing is gained (peers' measurements).
    batch_signals_max: int = Field(256, ge=1, le=512)
    #: Bytes of input read at a time; fewer signals are read when they are large.
    batch_bytes_max: int = Field(4_194_304, ge=65_536)
    #: Longest blocking read; must stay below any idle limit of proxies on the way.
    block_ms: int = Field(2_000, ge=10, le=30_000)
    #: Sessions kept in memory between batches; others are read again when they next speak.
    sessions_cached_max: int = Field(1_000, ge=1)
    ingress_max: int = Field(defaults.INGRESS_MAX, ge=1)
    emit_limit_ms: int = Field(defaults.EMIT_LIMIT_MS, ge=0)
    #: A signal that fewer replicas have counts as not sent; more than there are stops all emitters.
    wait_replicas: int = Field(defaults.WAIT_REPLICAS, ge=0, le=16)
    #: An agent that has said nothing for so long says that it is alive.
    heartbeat_ms: int = Field(defaults.HEARTBEAT_MS, ge=100)

    @field_validator("namespace")
    @classmethod
    def _plain(cls, value: str) -> str:
        fault = defaults.namespace_fault(value)
        if fault is not None:
            raise ValueError(fault)
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
        files = [TomlConfigSettingsSource(settings_cls, path) for path in defaults.config_files()]
        return (init_settings, env_settings, *files)


def load(**flags: Any) -> Settings:
    """Return the settings in force; flags that are None do not count. Raises ConfigError."""
    try:
        _check_files()
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise ConfigError(
            f"setting {where}: {first['msg']} (flag --{where.replace('_', '-')}, "
            f"FABRIC_{where.upper()}, or {CONFIG_NAME})"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{CONFIG_NAME} cannot be read: {error}") from None


def _check_files() -> None:
    """Refuse a file that nobody means, before a parser takes for ever over it. Raises ConfigError.

    Those that are missing, or no text, are left to that.
    """
    for path in filter(Path.is_file, defaults.config_files()):
        # Only who has such a file needs the scan of it.
        from fabric.config.place import UnreadableError, places
        from fabric.config.rulebook import FILE_BYTES_MAX

        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: more than {FILE_BYTES_MAX} bytes")
        try:
            places(data.decode(errors="replace"))
        except UnreadableError as error:
            raise ConfigError(f"{path}:{error.line}: {error.found}; write {error.fix}") from None
