"""Who takes part in a run: which processes, with which arguments."""

from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.deployment import Deployment
from tests.chaos.post import CROWDS, PARTITIONS, TEAM_AGENTS, TEAMS
from tests.chaos.process import (
    CROWD,
    HAND,
    HOST,
    ORCHESTRATOR,
    PERSON,
    ROGUE,
    SYNTHESIZER,
    Fleet,
    Slot,
)
from tests.chaos.scene import LEASE_MS

#: Workers of each kind.
ORCHESTRATORS, SYNTHESIZERS = 3, 2
#: Processes of agents; the agents of each team are spread over all of them.
HOSTS = 4
#: Processes that send much.
CROWDERS = 2

#: Silence is judged quickly, so that a run sees many deaths; no person is asked about them.
RULES = """\
[limits]
undeclared_grace_ms = 3000

[liveness]
silence_ms_min = 6000
silence_ms_max = 15000
silent_deaths_max = 1000
"""


def workers(fleet: Fleet, deployment: Deployment, directory: Path) -> None:
    """Add the orchestrators and the synthesizers."""
    rules = directory / "fabric.toml"
    rules.write_text(RULES)
    counts = {ORCHESTRATOR: ORCHESTRATORS, SYNTHESIZER: SYNTHESIZERS}
    for kind, count in counts.items():
        for number in range(count):
            name = f"{kind}-{number}"
            extra = {"FABRIC_CONFIG": str(rules)}
            argv = _worker(kind, name, deployment.worker_url)
            fleet.add(Slot(kind, name, argv, _said(directory, name), extra=extra))


def _worker(kind: str, name: str, url: str) -> Callable[[int], Sequence[str]]:
    def argv(life: int) -> Sequence[str]:
        return (
            *("workers", kind, "--redis-url", url, "--lease-ms", str(LEASE_MS)),
            # Who starts again is another replica: what its predecessor held runs out first.
            *("--name", f"{name}.{life}", "--partitions", str(PARTITIONS)),
        )

    return argv


def speakers(
    fleet: Fleet, deployment: Deployment, directory: Path, *, seed: int, rate: float
) -> None:
    """Add all who send signals: teams of agents, and those that send much."""
    url = deployment.agent_url
    members = [f"{session}/{name}" for session in TEAMS for name in TEAM_AGENTS]
    for number in range(HOSTS):
        name = f"host-{number}"
        argv = _program("host", url, directory, seed, *members[number::HOSTS])
        fleet.add(Slot(HOST, name, argv, _said(directory, name)))
    for number in range(CROWDERS):
        name = f"crowd-{number}"
        argv = _program("crowd", url, directory, rate / CROWDERS, *CROWDS[number::CROWDERS])
        fleet.add(Slot(CROWD, name, argv, _said(directory, name)))
    for how in ("xadd", "emit"):
        name = f"hand-{how}"
        fleet.add(Slot(HAND, name, _program("hand", url, directory, how), _said(directory, name)))
    fleet.add(
        Slot(ROGUE, "rogue", _program("rogue", url, directory, seed), _said(directory, "rogue"))
    )
    argv = _program("person", url, directory, *TEAMS)
    fleet.add(Slot(PERSON, "person", argv, _said(directory, "person")))


def _program(name: str, *arguments: object) -> Callable[[int], Sequence[str]]:
    return lambda life: (f"tests.chaos.{name}", *map(str, arguments))


def _said(directory: Path, name: str) -> Path:
    said = directory / "said"
    said.mkdir(exist_ok=True)
    return said / name
