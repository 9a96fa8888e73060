"""What holds where nobody has set anything, and the files in which somebody may have.

The settings (`settings.py`) take their defaults from here. So does the command line where there is
nothing more to look up: checking settings with pydantic takes longer than sending a signal.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

#: File that a project, or a user's configuration folder, may hold.
CONFIG_NAME = "fabric.toml"

#: Begins the name of every environment variable that is a setting.
ENV_PREFIX = "FABRIC_"

#: Names of keys begin with it.
NAMESPACE = "fabric"
NAMESPACE_CHARS_MAX = 64

#: Shards of sessions, fixed when a namespace is first used: one is right for one server, and on a
#: cluster enough to spread the load over as many primaries as clusters usually have.
PARTITIONS = 1
PARTITIONS_CLUSTER = 64

#: Each partition is looked at by whoever looks at all of the namespace.
PARTITIONS_MAX = 1_024

#: Signals that may wait in one partition's ingress before emitters are held back.
INGRESS_MAX = 100_000

#: How long a signal is tried, over reconnects and back-pressure, before its emitter is told.
EMIT_LIMIT_MS = 30_000

#: Replicas that must have a signal before it counts as sent: none. One costs a round trip between
#: the servers, and makes it unlikely that a failover loses the signal.
WAIT_REPLICAS = 0

#: An agent that has said nothing for so long says that it is alive.
HEARTBEAT_MS = 10_000


def namespace_fault(name: str) -> str | None:
    """Say what is wrong with the name of a namespace; None when nothing is."""
    if not 1 <= len(name) <= NAMESPACE_CHARS_MAX:
        return f"must have 1 to {NAMESPACE_CHARS_MAX} characters"
    if not name.isprintable() or set(name) & set("{}: "):
        return "no braces, colons, spaces or control characters"
    return None


def config_files() -> list[Path]:
    """Return the configuration files there are, the project's before the user's."""
    named = os.environ.get("FABRIC_CONFIG")
    if named:
        return [Path(named)]
    project = None
    with suppress(FileNotFoundError):  # the working directory may be gone
        here = Path.cwd()
        folders = (here, *here.parents)
        project = next((path for f in folders if (path := f / CONFIG_NAME).is_file()), None)
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    user = Path(home, "fabric", CONFIG_NAME)
    return [path for path in (project, user) if path is not None and path.is_file()]
