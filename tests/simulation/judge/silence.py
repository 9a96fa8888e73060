"""An agent that has sent something is not declared dead, however late its signal is read.

Silence is measured in the log's time, which stands still while no worker decides: a waiting signal
that is older than the decision was overlooked; a newer one came after it.
"""

from __future__ import annotations

import msgspec

from fabric.store.keys import ORCHESTRATORS
from fabric.wire.stored import fields_of
from tests.simulation.judge.judge import Commit, Judge, Violation

#: A worker cannot know what arrives between its last read and the end of its commit: the duration
#: of slow requests and replies, ms. For a frozen worker its lease is added.
UNDER_WAY_MS = 20_000


class Silence(Judge):
    """Looks for a waiting signal of an agent when a timer declares the agent dead."""

    def __init__(self, lease_ms: int) -> None:
        self._unknown_ms = lease_ms + UNDER_WAY_MS

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS or not commit.waiting:
            return
        for session, changes in commit.hashes("agents"):
            for name, value in changes.items():
                agent = msgspec.json.decode(value) if value is not None else {}
                if agent.get("status") == "dead":
                    self._look(commit, session, name, agent["incarnation"], _decided_ms(commit))

    def _look(
        self, commit: Commit, session: str, name: str, incarnation: int, decided_ms: int
    ) -> None:
        sender = session.encode(), name.encode(), b"%d" % incarnation
        for entry_id, flat in commit.waiting:
            fields = fields_of(flat)
            said = fields.get(b"session"), fields.get(b"emitter"), fields.get(b"incarnation")
            age_ms = decided_ms - int(entry_id.partition(b"-")[0])
            if said == sender and age_ms > self._unknown_ms:
                raise Violation(
                    "who has spoken is not taken for silent",
                    f"{session}: {name} has spoken {age_ms} ms before it was given up",
                )


def _decided_ms(commit: Commit) -> int:
    """Return the latest time in the commit's log entries."""
    return max(int(fields[b"ms"]) for key, _, fields in commit.appended if key.endswith(":log"))
