"""Who has spoken is not taken for silent, however late he is heard (design, 6, "Liveness").

Silence is judged by the log's time, which stands still while nobody decides: what waits and is
older than the decision was not heard, what is younger came after it.
"""

from __future__ import annotations

import msgspec

from fabric.store.keys import ORCHESTRATORS
from fabric.wire.stored import fields_of
from tests.simulation.judge.judge import Commit, Judge, Violation

#: What comes between the last look at the input and the end of a commit is not known to who
#: decides: answers and requests that are slow, ms. A worker that is frozen has its lease beside.
UNDER_WAY_MS = 20_000


class Silence(Judge):
    """Looks for the word of an agent among what waits, when a timer gives it up for dead."""

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
    """Return the latest time that the commit's log entries have."""
    return max(int(fields[b"ms"]) for key, _, fields in commit.appended if key.endswith(":log"))
