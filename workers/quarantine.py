"""What an orchestrator leaves out: sessions with a spoilt key, inputs that nothing can handle."""

from __future__ import annotations

from fabric.core.decision import Decision
from workers.handler import DefectError

#: Time that a session with a spoilt key is left out before it is looked at again, ms.
QUARANTINE_MS = 10_000

#: Sessions left out at a time. Who is let in again too early is left out again, at the cost of one
#: batch read twice.
QUARANTINED_MAX = 10_000

#: Bytes of the messages that may follow from one signal. One commit holds them all, and a server
#: refuses a request of a gigabyte, whoever sends it and however often.
CONSEQUENCE_BYTES_MAX = 33_554_432

#: Inputs that are remembered for a defect of the rules. More at a time would be one defect.
DEFECTS_MAX = 1_000


class Quarantine:
    """Sessions that are left out for a while. Its end is set when the next batch tells the time."""

    def __init__(self) -> None:
        #: Session → (why it is left out, until when).
        self._sessions: dict[str, tuple[str, int]] = {}

    def __contains__(self, session: str) -> bool:
        return session in self._sessions

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: str, reason: str) -> None:
        """Leave a session out; of too many the one that has been left out longest no more."""
        self._sessions.pop(session, None)
        if len(self._sessions) >= QUARANTINED_MAX:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[session] = (reason, 0)

    def reason(self, session: str) -> str:
        """Say why a session is left out."""
        reason, _ = self._sessions.get(session, ("its state is not readable", 0))
        return reason

    def end(self, now_ms: int) -> None:
        """Let go of those whose time is over."""
        for session, (reason, until_ms) in list(self._sessions.items()):
            if not until_ms:
                self._sessions[session] = (reason, now_ms + QUARANTINE_MS)
            elif until_ms <= now_ms:
                del self._sessions[session]


class Defects(dict[bytes, tuple[str, str]]):
    """Inputs that cannot be handled → code and reason. Emptied when full."""

    def note(self, key: bytes, error: Exception) -> None:
        """Remember an input that the rules failed on."""
        kind = type(error).__name__
        self._note(key, "DEFECT", f"the rules failed on it ({kind}); please report this")

    def check_size(self, key: bytes, decision: Decision) -> None:
        """Leave out what no commit can hold. Raises DefectError; the input goes to `dead`."""
        size = sum(len(message.payload) for message in decision.messages)
        if size > CONSEQUENCE_BYTES_MAX:
            reason = (
                f"{len(decision.messages)} messages of {size} bytes in all would follow from it; "
                f"at most {CONSEQUENCE_BYTES_MAX} bytes"
            )
            self._note(key, "LIMIT", reason)
            raise DefectError(f"{key!r}: {reason}")

    def _note(self, key: bytes, code: str, reason: str) -> None:
        if len(self) >= DEFECTS_MAX:
            self.clear()
        self[key] = code, reason
