"""For tests of your own agents: a whole fabric inside the test, without a server.

`async with fabric.testing.running() as fabric:` gives a real `Fabric` with the real rules,
orchestrator and synthesizer on a store in memory, and a clock that only the test moves. See
docs/testing.md.
"""

from __future__ import annotations

from fabric.testing.in_process import (
    InProcessFabric,
    StandstillError,
    SyncInProcessFabric,
    running,
    running_sync,
)

__all__ = ["InProcessFabric", "StandstillError", "SyncInProcessFabric", "running", "running_sync"]
