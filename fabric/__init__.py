"""Signal Fabric: a deterministic coordination plane for fleets of agents, on Redis Streams.

The names in `__all__` are public, and so is `fabric.testing`; everything else may change. Each name
is imported when it is first used, so that the command line starts without the driver.
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
    from fabric.client.notice import ResumePoint
    from fabric.client.session import Session
    from fabric.client.sync import SyncAgent, SyncFabric, SyncSession
    from fabric.client.synthesis import Revision
    from fabric.config.settings import Settings
    from fabric.core.signal import SignalType
    from fabric.core.task import TaskSpec
    from fabric.errors import (
        BarrierError,
        BusyError,
        CallerError,
        ConfigError,
        DeadlockError,
        DependencyFailedError,
        DivergedError,
        EndedError,
        ExhaustedError,
        FabricError,
        FencedError,
        HeldError,
        MissingInputError,
        NameTakenError,
        NotAllowedError,
        NotFoundError,
        OverloadedError,
        PeerError,
        ReconnectedError,
        ServerError,
        SignalError,
        TamperedError,
        TaskFileError,
        UnavailableError,
        UnreachableError,
        UnseededError,
        UnsupportedServerError,
        WaitTimeoutError,
    )
    from fabric.view.synthesis import Synthesis

__version__ = "0.1.0"

__all__ = [
    "Agent", "BarrierError", "BusyError", "CallerError", "ConfigError", "DeadlockError",
    "DependencyFailedError", "DivergedError", "EndedError", "ExhaustedError", "Fabric",
    "FabricError", "FencedError", "Grant", "HeldError", "Message", "MissingInputError",
    "NameTakenError",
    "NotAllowedError", "NotFoundError", "OverloadedError", "PeerError", "ReconnectedError",
    "ResumePoint", "Revision", "ServerError", "Session", "Settings", "SignalError", "SignalType",
    "SyncAgent", "SyncFabric", "SyncSession", "Synthesis", "TamperedError", "TaskFileError",
    "TaskSpec", "UnavailableError", "UnreachableError", "UnseededError", "UnsupportedServerError",
    "WaitTimeoutError", "WhenFull",
]  # fmt: skip

#: Where each public name is defined; errors, which are not listed, in `fabric.errors`.
_HOMES = {
    "Agent": "fabric.client.agent",
    "Fabric": "fabric.client.fabric",
    "Grant": "fabric.client.grant",
    "Message": "fabric.client.message",
    "ResumePoint": "fabric.client.notice",
    "Revision": "fabric.client.synthesis",
    "Session": "fabric.client.session",
    "Settings": "fabric.config.settings",
    "SignalType": "fabric.core.signal",
    "SyncAgent": "fabric.client.sync",
    "SyncFabric": "fabric.client.sync",
    "SyncSession": "fabric.client.sync",
    "TaskSpec": "fabric.core.task",
    "Synthesis": "fabric.view.synthesis",
    "WhenFull": "fabric.client.emitter",
}


def __getattr__(name: str) -> Any:
    """Import a public name from where it is defined."""
    if name not in __all__:
        raise AttributeError(f"module 'fabric' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "fabric.errors")), name)
