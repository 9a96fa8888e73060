"""The three fleets, run as a person runs them, on a server and workers of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleets.fleet import FLEET_SECONDS_MAX
from tests.support import daemon as daemons
from tests.support.daemon import StartDaemon
from tests.support.fixtures import daemon
from tests.support.servers import ROOT, RunningServer

__all__ = ["daemon"]

#: Rules of the fleets that need some.
RULES = ROOT / "tests" / "fleets"


@pytest.mark.slow
@pytest.mark.one_server
@pytest.mark.parametrize("name", ["review", "research", "suites"])
def test_a_fleet_is_through_and_right(
    server: RunningServer, daemon: StartDaemon, tmp_path: Path, name: str
) -> None:
    book = RULES / f"{name}.toml"
    for worker in ("orchestrator", "synthesizer"):
        daemon(server.url, worker=worker, rules=book if book.exists() else None)
    settings = {"FABRIC_REDIS_URL": server.url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", f"tests.fleets.{name}"],
        env=daemons.environment() | settings | {"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=2 * FLEET_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr[-3_000:] + done.stdout[-1_000:]
