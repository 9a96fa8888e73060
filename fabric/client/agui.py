"""A synthesis as state events of AG-UI, the protocol between agents and interfaces.

STATE_SNAPSHOT has the whole document, STATE_DELTA a JSON Patch (RFC 6902) to apply to it. The state
is the official document: its `revision` says where to go on after a lost connection.
See docs.ag-ui.com, "State Management".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fabric.client.synthesis import Revision, apply
from fabric.store.keys import SessionKeys

#: An event, as JSON has it.
Event = dict[str, Any]


def snapshot(document: dict[str, Any]) -> Event:
    """Return the event that gives the whole state."""
    return {"type": "STATE_SNAPSHOT", "snapshot": document}


def of_revision(keys: SessionKeys, revision: Revision) -> Iterator[Event]:
    """Yield the event of one revision; one that begins the document anew is a whole state."""
    if not revision.patch:
        return
    if revision.patch[0]["path"] == "":
        event = snapshot(apply(keys, {}, revision))
    else:
        event = {"type": "STATE_DELTA", "delta": revision.patch}
    yield {**event, "timestamp": revision.ms}
