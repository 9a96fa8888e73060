"""Signal Fabric: a deterministic coordination plane for fleets of agents, on Redis Streams.

The public names, imported when they are first used: the command line starts without the driver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fabric.client.agent import Agent
    from fabric.client.emitter import WhenFull
    from fabric.client.fabric import Fabric
    from fabric.client.grant import Grant
    from fabric.client.message import Message
    from fabric.client.revision import Revision
    from fabric.client.session import Session
    from fabric.client.sync import SyncAgent, SyncFabric, SyncSession
    from fabric.client.told import Past
    from fabric.core.signal import SignalType
    from fabric.errors import FabricError
    from fabric.view.synthesis import Synthesis

__version__ = "0.1.0"

_HOMES = {
    "Agent": "fabric.client.agent",
    "Fabric": "fabric.client.fabric",
    "FabricError": "fabric.errors",
    "Grant": "fabric.client.grant",
    "Message": "fabric.client.message",
    "Past": "fabric.client.told",
    "Revision": "fabric.client.revision",
    "Session": "fabric.client.session",
    "SignalType": "fabric.core.signal",
    "SyncAgent": "fabric.client.sync",
    "SyncFabric": "fabric.client.sync",
    "SyncSession": "fabric.client.sync",
    "Synthesis": "fabric.view.synthesis",
    "WhenFull": "fabric.client.emitter",
}

__all__ = [
    "Agent",
    "Fabric",
    "FabricError",
    "Grant",
    "Message",
    "Past",
    "Revision",
    "Session",
    "SignalType",
    "SyncAgent",
    "SyncFabric",
    "SyncSession",
    "Synthesis",
    "WhenFull",
]


def __getattr__(name: str) -> Any:
    """Import a public name from where it is defined."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fabric' has no attribute {name!r}")
    return getattr(import_module(home), name)
