"""The sessions and agents of a run, and where each agent's record is."""

from dataclasses import dataclass
from pathlib import Path

from fabric.store.keys import partition_of
from tests.chaos.journal import now_ms

#: Partitions of the namespace.
PARTITIONS = 4
#: Time after which an agent makes its next output, ms.
OUTPUT_MS = 2_000
#: Outputs that agents make ahead at the end, so that nobody waits for a missing one.
OUTPUTS_AHEAD = 8


def session_in(partition: int, prefix: str) -> str:
    """Return the name of a session in this partition."""
    names = (f"{prefix}-{number}" for number in range(1_000))
    return next(name for name in names if partition_of(name, PARTITIONS) == partition)


#: Sessions of the teams, one in each partition.
TEAMS = tuple(session_in(number, "team") for number in range(PARTITIONS))
#: Sessions of the bulk senders.
BULK_SESSIONS = tuple(session_in(number, "crowd") for number in range(PARTITIONS))
#: Session of the raw senders.
RAW_SESSION = session_in(0, "hands")
#: Session of the misbehaving client.
ROGUE_SESSION = session_in(1, "rogues")
#: Begins the names of the sessions that end while a run lasts.
MORTAL = "mortal"
#: Sessions of the agents that an outage finds at work, and these agents.
OUTAGE_SESSIONS = tuple(session_in(number, "outage") for number in range(PARTITIONS))
SURVIVORS = ("ada", "bob", "cyd", "dan", "eve", "fay")
#: Sessions of the runner's probes, one in each partition.
PROBE_SESSIONS = tuple(session_in(number, "probe") for number in range(PARTITIONS))

#: Agents of a team; the first leads the integrations.
TEAM_AGENTS = ("ada", "bob", "cyd", "dan", "eve", "fay")


@dataclass(frozen=True)
class Member:
    """One agent of a team."""

    url: str
    directory: Path
    session: str
    name: str
    seed: int
    #: Longest wait, s, where a failover may have lost the request; None: no limit.
    limit_s: float | None = None

    @property
    def rank(self) -> int:
        """Return its place in the team: it waits only for outputs of agents before it."""
        return TEAM_AGENTS.index(self.name)

    @property
    def record(self) -> Path:
        return record(self.directory, self.session, self.name)


def record(directory: Path, session: str, agent: str) -> Path:
    """Return the path of an agent's record."""
    return directory / "agents" / session / f"{agent}.jsonl"


def is_over(directory: Path) -> bool:
    """Return whether the faults are over, and all agents must finish."""
    return (directory / "finish").exists()


def output(agent: str, number: int) -> str:
    """Return the name of an agent's output."""
    return f"out/{agent}/{number}"


def output_now() -> int:
    """Return the number of the output that is due."""
    return int(now_ms() // OUTPUT_MS)
