"""Settings, one declaration each, and where they come from: flags, environment, files.

The bounds of what agents may send are in fabric/core/limits.py, the rules in fabric/core/rules.py.
Imports neither pydantic nor msgspec until a value needs to be checked: sending a signal takes less
time than importing them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from fabric.core.declaration import NAMESPACE_CHARS_MAX, Declared, Field, Number, Text, fields
from fabric.errors import ConfigError

#: Name of the configuration file, in a project or in a user's configuration folder.
CONFIG_NAME = "fabric.toml"

#: The default prefix of keys.
NAMESPACE = "fabric"
#: The default number of partitions, fixed when a namespace is first used: one server needs one; on
#: a cluster, this many spread the load over as many primaries as clusters usually have.
PARTITIONS = 1
PARTITIONS_CLUSTER = 64
#: Looking at a namespace means looking at each of its partitions.
PARTITIONS_MAX = 1_024


@dataclass(frozen=True, slots=True)
class Secret:
    """A URL that may hold a password, and is never shown."""

    value: str = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """What the library, the workers and the commands run with."""

    redis_url: Annotated[
        Secret | None,
        Text.URL,
        Declared(write="a URL in double quotes", example="redis://localhost:6379/0"),
        "Server: redis://, rediss://, unix://, redis+sentinel://host,…/service or "
        "redis+cluster://host,…; without one, the project's own server.",
    ] = None
    namespace: Annotated[str, Text.NAMESPACE, "Prefix of every key."] = NAMESPACE
    session: Annotated[
        str | None, Text.FREE, Declared(example="sprint-12"), "Session: the parallel run."
    ] = None
    agent: Annotated[str | None, Text.FREE, Declared(example="ARCHITECT"), "Agent name."] = None
    stream: Annotated[str | None, Text.FREE, Declared(example="A"), "The agent's line of work."] = (
        None
    )
    workspace: Annotated[
        str | None,
        Text.FREE,
        Declared(example="build-7:/src/app"),
        "The copy of the files that the agent works in, HOST:TOP; by default this host and the top "
        'of the worktree around the working directory. "none": no copy.',
    ] = None
    instance: Annotated[
        str | None,
        Text.FREE,
        Declared(example="claude-4711"),
        "Which living process sends signals: a second one under the name of an agent at work is "
        "refused. The library makes one up, commands do not.",
    ] = None

    partitions: Annotated[
        int | None,
        Number("partitions", 1, PARTITIONS_MAX),
        Declared(example=4, worker_flag=True),
        "Shards of the sessions; counts only while the namespace is new. By default 1, and on a "
        "cluster 64.",
    ] = None
    # About the same for all workers of a namespace.
    lease_ms: Annotated[
        int,
        Number("ms", 200, 600_000),
        Declared(worker_flag=True),
        "After this time another worker takes over a dead one's partitions. A shorter time means a "
        "quicker take-over, a longer one that a slow server or a busy host is not taken for a dead "
        "worker.",
    ] = 5_000
    # Measurements with peers: larger batches gain nothing.
    batch_signals_max: Annotated[
        int,
        Number("signals", 1, 512),
        Declared(worker_flag=True),
        "Signals that are read and committed at a time.",
    ] = 256
    batch_bytes_max: Annotated[
        int,
        Number("bytes", 65_536),
        "Bytes of input that are read at a time: fewer signals where they are large.",
    ] = 4_194_304
    health_port: Annotated[
        int | None,
        Number("port", 1, 65_535),
        Declared(example=8080, worker_flag=True),
        "A worker answers /healthz and /readyz on this port, on all addresses; by default on none.",
    ] = None
    # For a host that is stronger, or nearer to the server, than others.
    weight: Annotated[
        int,
        Number("parts", 0, 100, zero="a standby"),
        Declared(worker_flag=True),
        "A worker of twice the weight serves twice the partitions. One of weight 0 serves none "
        "while another worker of its kind that has a weight is at work.",
    ] = 1
    block_ms: Annotated[
        int,
        Number("ms", 10, 30_000),
        "Longest blocking read. Keep it below the idle limit of any proxy on the way.",
    ] = 2_000
    sessions_cached_max: Annotated[
        int,
        Number("sessions", 1),
        "Sessions of a partition that a worker keeps in memory, some 15 KB for a small one; others "
        "are read again when they next speak.",
    ] = 10_000
    ingress_max: Annotated[
        int,
        Number("signals", 1),
        "Signals that may wait in one partition before emitters are held back.",
    ] = 100_000
    emit_limit_ms: Annotated[
        int,
        Number("ms", 0),
        "How long connecting or sending a signal is tried, over reconnects and back-pressure.",
    ] = 30_000
    confirm_ms: Annotated[
        int,
        Number("ms", 0),
        "How long an agent that ends waits until its COMPLETED was accepted; 0: not at all.",
    ] = 30_000
    # One costs a round trip between the servers. More than there are would stop all emitters.
    wait_replicas: Annotated[
        int,
        Number("replicas", 0, 16),
        "Replicas that must have a signal before it counts as sent, and a grant before it counts. "
        "A majority of the servers, less the primary: then a failover hardly loses any.",
    ] = 0
    heartbeat_ms: Annotated[
        int, Number("ms", 100), "A silent agent says this often that it is alive."
    ] = 10_000

    def need(self, what: str, given: str | None = None) -> str:
        """Return the session, agent or stream to work with. Raises ConfigError without one."""
        value = given or getattr(self, what)
        if not value:
            raise ConfigError(f"no {what}: name one (--{what}), or set FABRIC_{what.upper()}")
        return printable(what, str(value))


#: The variable that names a file with the server's URL, for secrets that are mounted as files.
URL_FILE = "FABRIC_REDIS_URL_FILE"

#: Settings that send agents elsewhere: of a project's file they need consent (trust.py).
GUARDED = ("redis_url",)

#: Settings that are texts: with nothing else given, there is nothing that pydantic must check.
TEXTS = ("redis_url", "namespace", "session", "agent", "stream", "workspace", "instance")


class Source(NamedTuple):
    """Settings from one place: a file, or the environment, or flags."""

    values: Mapping[str, Any]
    path: Path | None = None
    #: The lines of a file's keys.
    lines: Mapping[tuple[str | int, ...], int] = MappingProxyType({})
    is_environment: bool = False

    def place(self, setting: str) -> str:
        """Return the place of a setting there: a file and its line, a variable, a flag."""
        if self.path is not None:
            return f"{self.path}:{self.lines.get((setting,), 1)}"
        return variable(setting) if self.is_environment else f"flag {flag(setting)}"


def load(**flags: Any) -> Settings:
    """Return the settings in force; flags that are None do not count. Raises ConfigError."""
    return _load(flags, None, None)


def load_for(folder: Path, variables: Mapping[str, str]) -> Settings:
    """Return the settings of another process: of one in that folder, with these variables."""
    return _load({}, folder, variables)


def _load(
    flags: Mapping[str, Any], folder: Path | None, variables: Mapping[str, str] | None
) -> Settings:
    environment, files = _environment(variables), config_files(folder, variables)
    # A command's flag may come from its variable: an error should then name the variable.
    said = {name: value for name, value in flags.items() if value is not None}
    given = {name: value for name, value in said.items() if environment.get(name) != value}
    if not files:
        values = {**environment, **given}
        is_text = all(name in TEXTS and isinstance(one, str) for name, one in values.items())
        if is_text and not namespace_fault(values.get("namespace", NAMESPACE)):
            url = values.pop("redis_url", None)
            return Settings(redis_url=Secret(url) if url else None, **values)

    from fabric.config.check import settings_of

    found = sources(given, files, variables)
    _check_trust(found)
    return settings_of(found)


def _check_trust(found: list[Source]) -> None:
    """Refuse a project's file that sends agents to another server without the user's consent."""
    known: set[str] = set()
    for source in found:
        new = [name for name in GUARDED if source.values.get(name) and name not in known]
        known.update(name for name in GUARDED if name in source.values)
        if source.path is None or not new:
            continue

        from fabric.config.trust import request

        asked = request(source.path, source.values)
        if asked is not None and not asked.is_allowed():
            raise ConfigError(
                f"{source.place(new[0])} sets {new[0]}: a project's file may name the server only "
                f"after `fabric trust`, which shows it; or set {variable(new[0])}"
            )


def sources(
    flags: Mapping[str, Any], files: list[Path], variables: Mapping[str, str] | None = None
) -> list[Source]:
    """Return what gives settings, the strongest first.

    Raises ConfigError for a file with a fault, and for one that is not there.
    """
    from fabric.config.toml_file import FaultError, read

    found = [Source(flags), Source(_environment(variables), is_environment=True)]
    for path in files:
        try:
            document = read(path)
        except FaultError as error:
            raise ConfigError(f"{path}:{error.fault.line}: {error.fault}") from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from None
        found.append(Source(document.values, path, document.lines))
    return found


def flag(setting: str) -> str:
    """Return the flag of a setting."""
    return f"--{setting.replace('_', '-')}"


def worker_flags() -> list[Field]:
    """Return the settings that are flags of the workers' commands."""
    return [field for field in fields(Settings) if field.declared.worker_flag]


def variable(setting: str) -> str:
    """Return the environment variable of a setting."""
    return f"FABRIC_{setting.upper()}"


def namespace_fault(name: str) -> str | None:
    """Say what is wrong with the name of a namespace; None when nothing is."""
    if not 1 <= len(name) <= NAMESPACE_CHARS_MAX:
        return f"must have 1 to {NAMESPACE_CHARS_MAX} characters"
    if not name.isprintable() or set(name) & set("{}: "):
        return "no braces, colons, spaces or control characters"
    return None


def printable(what: str, name: str) -> str:
    """Return a name as it is. Raises ConfigError for bytes that are no text: a shell passes any."""
    if not name.isprintable():
        raise ConfigError(f"{what}: {name!a} is no name: printable characters in UTF-8")
    return name


def config_files(
    folder: Path | None = None, variables: Mapping[str, str] | None = None
) -> list[Path]:
    """Return the configuration files, the project's before the user's; see `load_for`."""
    from fabric.devserver.project import places

    named = (os.environ if variables is None else variables).get("FABRIC_CONFIG")
    if named:
        return [Path(named)]
    project = None
    with suppress(OSError):  # the working directory may be gone
        # Above a worktree is the main one, whose file need not be in git.
        project = next(
            (p for at in places(folder) if (p := at.folder / CONFIG_NAME).is_file()), None
        )
    return [path for path in (project, user_file()) if path is not None and path.is_file()]


def user_file() -> Path:
    """Return where the user's own file is."""
    from fabric.devserver.project import user_home

    home = os.environ.get("XDG_CONFIG_HOME") or str(user_home() / ".config")
    return Path(home, "fabric", CONFIG_NAME)


def _environment(variables: Mapping[str, str] | None) -> dict[str, str]:
    """Return the settings that environment variables give, in any case; empty ones give none."""
    variables = os.environ if variables is None else variables
    said = {name.upper(): value for name, value in variables.items() if value}
    names = Settings.__dataclass_fields__
    given = {name: said[variable(name)] for name in names if variable(name) in said}
    if "redis_url" not in given and (path := said.get(URL_FILE)):
        given["redis_url"] = _secret(Path(path))
    return given


def _secret(path: Path) -> str:
    """Return what a file says, without the end of its line. Raises ConfigError."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"{URL_FILE}: {path} cannot be read: {reason}") from None
    if not text:
        raise ConfigError(f"{URL_FILE}: {path} is empty: write the server's URL into it")
    return text
