"""Nobody is heard in a closed run, nor an agent of an earlier run in the next."""

from __future__ import annotations

from fabric.store.keys import ORCHESTRATORS
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

#: The synthesizer's own signals: they say what was found in the run.
_SYNTHESIZERS = (b"SYNTHESIZED", b"CONFLICT_DETECTED", b"REFINED")


class Runs(Judge):
    """Follows the signals that close and open the runs of each session."""

    def __init__(self) -> None:
        self._closed: set[str] = set()
        #: Session → agent → its last incarnation in this run, and in earlier ones.
        self._heard: dict[str, dict[bytes, int]] = {}
        self._retired: dict[str, dict[bytes, int]] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS:
            return
        prefix = f"{NAMESPACE.partition(commit.lease.partition).prefix}:"
        for key, _, fields in commit.appended:
            if key.endswith(":log") and fields[b"kind"] == b"signal":
                self._hear(key.removeprefix(prefix).removesuffix(":log"), fields)

    def _hear(self, session: str, fields: dict[bytes, bytes]) -> None:
        kind, name = fields[b"type"], fields[b"emitter"]
        if kind == b"RUN_CLOSED":
            self._closed.add(session)
        elif kind == b"RUN_OPENED" and session in self._closed:
            self._closed.discard(session)
            self._retired[session] = self._retired.get(session, {}) | self._heard.pop(session, {})
        elif session in self._closed and kind not in _SYNTHESIZERS:
            raise Violation("nobody is heard in a closed run", f"{session}: {fields}")
        elif number := int(fields.get(b"incarnation", b"0") or 0):
            if number <= self._retired.get(session, {}).get(name, 0):
                raise Violation("an earlier run is not heard", f"{session}: {fields}")
            self._heard.setdefault(session, {})[name] = number
