"""The processes of a run, and their arguments."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos import mortal
from tests.chaos.clock import faked
from tests.chaos.context import LEASE_MS
from tests.chaos.deployment import Deployment
from tests.chaos.host import LIMIT
from tests.chaos.process import (
    BULK_SENDER,
    HOST,
    ORCHESTRATOR,
    PERSON,
    RAW_SENDER,
    ROGUE,
    SYNTHESIZER,
    Fleet,
    Slot,
)
from tests.chaos.roster import (
    BULK_SESSIONS,
    MORTAL,
    OUTAGE_SESSIONS,
    PARTITIONS,
    TEAM_AGENTS,
    TEAMS,
)
from tests.support.servers import ROOT

#: Number of workers of each kind.
WORKERS = {ORCHESTRATOR: 3, SYNTHESIZER: 2}
#: The same in a stage whose workers have default settings: enough for one to replace another.
DEFAULT_WORKERS = {ORCHESTRATOR: 2, SYNTHESIZER: 1}
#: Processes of agents; the agents of each team are spread over all of them.
HOSTS = 4
#: Number of bulk senders.
BULK_SENDERS = 2

#: Longest wait of an agent where a failover may lose its request, s.
WAIT_LIMIT_S = 20

#: The checker reads what everybody was told: nothing of it goes while a run lasts.
KEPT = """
[retention]
read_events = 1000000
revisions_max = 1000000
"""

#: Agents count as dead after short silence, so that a run has many deaths; no person is asked.
RULES = """\
[limits]
undeclared_grace_ms = 3000

[liveness]
silence_ms_min = 6000
silence_ms_max = 15000
silent_deaths_max = 1000
"""


class Participants:
    """Adds processes to a fleet. They run the source trees in `trees` by turns."""

    def __init__(
        self,
        fleet: Fleet,
        deployment: Deployment,
        directory: Path,
        *,
        seed: int,
        rate: float,
        trees: Sequence[Path] = (ROOT,),
    ) -> None:
        self._fleet = fleet
        self._deployment = deployment
        self._directory = directory
        self._seed = seed
        self._rate = rate
        self._trees = trees
        self._said = directory / "said"
        self._said.mkdir(parents=True, exist_ok=True)

    def workers(self, *, has_defaults: bool = False) -> None:
        """Add the orchestrators and the synthesizers; `has_defaults`: with no rules of our own."""
        rules = self._directory / "fabric.toml"
        rules.write_text(KEPT if has_defaults else RULES + KEPT + mortal.RULES)
        lease = () if has_defaults else ("--lease-ms", str(LEASE_MS))
        for kind, count in (DEFAULT_WORKERS if has_defaults else WORKERS).items():
            for number in range(count):
                name = f"{kind}-{number}"
                argv = _worker(kind, name, "--redis-url", self._deployment.worker_url, *lease)
                self._add(kind, name, number, argv, {"FABRIC_CONFIG": str(rules)})

    def survivors(self, outage_s: float) -> None:
        """Add the agents that an outage finds at work."""
        argv = self._program("survivor", outage_s, *OUTAGE_SESSIONS)
        self._add(HOST, "survivors", 0, argv)

    def teams(self) -> None:
        """Add the teams of agents, and the person who answers their questions."""
        members = [f"{session}/{name}" for session in TEAMS for name in TEAM_AGENTS]
        for number in range(HOSTS):
            argv = self._program("host", self._seed, *members[number::HOSTS])
            self._add(HOST, f"host-{number}", number, argv)
        self._add(PERSON, "person", 0, self._program("person", *TEAMS))

    def bulk_senders(self) -> None:
        """Add the bulk senders."""
        for number in range(BULK_SENDERS):
            share = self._rate / BULK_SENDERS
            argv = self._program("bulk_sender", share, *BULK_SESSIONS[number::BULK_SENDERS])
            self._add(BULK_SENDER, f"crowd-{number}", number, argv)

    def raw_senders(self) -> None:
        """Add the senders that do not use the library."""
        for number, how in enumerate(("xadd", "emit")):
            self._add(RAW_SENDER, f"hand-{how}", number, self._program("raw_sender", how))

    def mortals(self) -> None:
        """Add the sessions that end while the run lasts."""
        self._add(MORTAL, "mortal", 0, self._program("mortal", self._seed))

    def rogue(self) -> None:
        """Add the misbehaving client."""
        self._add(ROGUE, "rogue", 0, self._program("rogue", self._seed))

    def _add(
        self,
        kind: str,
        name: str,
        number: int,
        argv: Callable[[int], Sequence[str]],
        extra: dict[str, str] | None = None,
    ) -> None:
        tree = self._trees[number % len(self._trees)]
        # These use time.sleep, which does not work with a faked clock.
        clock = {} if kind in (RAW_SENDER, ROGUE) else faked(self._directory / "clocks" / name)
        environment = {**(extra or {}), **clock}
        # For all: after FLUSHALL the first process to connect fixes the partition count again.
        environment["FABRIC_PARTITIONS"] = str(PARTITIONS)
        environment["FABRIC_WAIT_REPLICAS"] = str(self._deployment.wait_replicas)
        if self._deployment.may_lose:
            environment[LIMIT] = str(WAIT_LIMIT_S)
        self._fleet.add(Slot(kind, name, argv, self._said / name, tree=tree, extra=environment))

    def _program(self, name: str, *arguments: object) -> Callable[[int], Sequence[str]]:
        place = (self._deployment.agent_url, str(self._directory))
        return lambda life: (f"tests.chaos.{name}", *place, *map(str, arguments))


def _worker(kind: str, name: str, *flags: str) -> Callable[[int], Sequence[str]]:
    def argv(life: int) -> Sequence[str]:
        return (
            *("workers", kind, *flags),
            # A restarted worker is a new replica: the leases of its predecessor expire first.
            *("--name", f"{name}.{life}", "--partitions", str(PARTITIONS)),
        )

    return argv
