"""Where an agent works: its session, its place among the others, its record."""

from dataclasses import dataclass
from pathlib import Path

from fabric.store.keys import partition_of
from tests.chaos.journal import now_ms

#: Partitions of the namespace.
PARTITIONS = 4
#: Time for which each output stands, ms: an agent makes one after the other.
OUTPUT_MS = 2_000
#: Outputs that are made ahead at the end, so that nobody is left who waits for the next one.
OUTPUTS_AHEAD = 8


def session_in(partition: int, prefix: str) -> str:
    """A session's name that lies in this partition."""
    names = (f"{prefix}-{number}" for number in range(1_000))
    return next(name for name in names if partition_of(name, PARTITIONS) == partition)


#: Sessions of agents that work together, one in each partition.
TEAMS = tuple(session_in(number, "team") for number in range(PARTITIONS))
#: Sessions of those that only report, and much.
BULK_SESSIONS = tuple(session_in(number, "crowd") for number in range(PARTITIONS))
#: Session of those that speak by hand.
RAW_SESSION = session_in(0, "hands")
#: Session of those that behave badly.
ROGUE_SESSION = session_in(1, "rogues")
#: Sessions that the runner asks something of, to see whether a partition is served.
PROBE_SESSIONS = tuple(session_in(number, "probe") for number in range(PARTITIONS))

#: Agents of a team; the first one leads the integrations.
TEAM_AGENTS = ("ada", "bob", "cyd", "dan", "eve", "fay")


@dataclass(frozen=True)
class Member:
    """One agent of a team, as its process is told of it."""

    url: str
    directory: Path
    session: str
    name: str
    seed: int
    #: Longest wait, s, where a failover may have lost what was asked; None: a wait ends, or fails.
    limit_s: float | None = None

    @property
    def rank(self) -> int:
        """Its place in the team: it waits only for outputs of those before it, never in a ring."""
        return TEAM_AGENTS.index(self.name)

    @property
    def record(self) -> Path:
        return record(self.directory, self.session, self.name)


def record(directory: Path, session: str, agent: str) -> Path:
    """Where an agent's own record is kept."""
    return directory / "agents" / session / f"{agent}.jsonl"


def is_over(directory: Path) -> bool:
    """Whether the faults are over, and everybody is to finish."""
    return (directory / "finish").exists()


def output(agent: str, number: int) -> str:
    """Name of an agent's output."""
    return f"out/{agent}/{number}"


def output_now() -> int:
    """Number of the outputs that are due."""
    return int(now_ms() // OUTPUT_MS)
