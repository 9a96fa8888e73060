"""What is cut was read; no log is cut; what is deleted had ended, and is gone whole."""

from __future__ import annotations

from fabric.store.keys import ORCHESTRATORS
from fabric.store.keyspace import Keyspace
from fabric.store.port import UNLINK, Entry
from fabric.store.state import PURGING
from fabric.store.value import parse_id
from fabric.wire.stored import read_object
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

_AT_WORK = ("active", "blocked", "paused")


class Cuts(Judge):
    """Follows messages, what agents have read of them, and which sessions are deleted."""

    def __init__(self) -> None:
        #: Stream of messages → its entries, and those that were cut.
        self._kept: dict[str, list[Entry]] = {}
        self.cut: dict[str, list[Entry]] = {}
        #: Inbox → id of the last message that was read.
        self._read: dict[str, tuple[int, int]] = {}
        #: Session → agent → its status.
        self._status: dict[str, dict[str, str]] = {}
        self._purging: set[str] = set()
        #: Sessions that were deleted, and have not begun anew.
        self.gone: set[str] = set()
        self.ever_gone: set[str] = set()
        #: Session → the highest fencing token that it has handed out, over all of its lives.
        self._tokens: dict[str, int] = {}
        self._is_new: set[str] = set()

    def was_read(self, cursors: str, agent: str, entry_id: bytes) -> None:
        """See Judge."""
        inbox = f"{cursors.removesuffix(':cursors')}:inbox:{agent}"
        self._read[inbox] = max(self._read.get(inbox, (0, 0)), parse_id(entry_id.split()[0]))

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        names = NAMESPACE.partition(commit.lease.partition)
        for key, entry_id, fields in commit.appended:
            session = names.session_of(key) or ""
            if session in self.gone:
                self.gone.discard(session)
                if not key.endswith(":log") or entry_id != b"1-0":
                    raise Violation("a deleted name begins anew", f"{key} {entry_id!r}")
            if ":inbox:" in key or key.endswith(":broadcast"):
                flat = [item for pair in fields.items() for item in pair]
                self._kept.setdefault(key, []).append((entry_id, flat))
        for session, changes in commit.hashes("agents"):
            for agent, value in changes.items():
                record = read_object(value or b"") or {}
                self._status.setdefault(session, {})[agent] = str(record.get("status", ""))
        for session, changes in commit.hashes("claims"):
            self._hand_out(session, changes)
        for session, changes in commit.hashes("meta"):
            if PURGING.decode() in changes and session not in self._purging:
                self._begin_purge(session)
        for verb, key, arguments in commit.written:
            if verb == "XTRIM":
                self._trim(key, arguments[-1])
            elif verb == UNLINK and commit.lease.group == ORCHESTRATORS:
                self._delete(names.session_of(key) or "", key)

    def _hand_out(self, session: str, changes: dict[str, bytes | None]) -> None:
        tokens = [(read_object(value or b"") or {}).get("token", 0) for value in changes.values()]
        highest = max(map(int, tokens), default=0)
        if highest and session in self._is_new:
            self._is_new.discard(session)
            lowest = min(int(token) for token in tokens if token)
            if lowest <= self._tokens.get(session, 0):
                raise Violation("no token is handed out again", f"{session}: {lowest}")
        self._tokens[session] = max(highest, self._tokens.get(session, 0))

    def _begin_purge(self, session: str) -> None:
        at_work = [n for n, one in self._status.get(session, {}).items() if one in _AT_WORK]
        if at_work:
            raise Violation("what is at work is not deleted", f"{session}: {at_work}")
        self._purging.add(session)

    def _trim(self, key: str, first: bytes) -> None:
        if key.endswith(":log"):
            raise Violation("no log is cut", f"{key} before {first!r}")
        kept = self._kept.get(key, [])
        going = [entry for entry in kept if parse_id(entry[0]) < parse_id(first)]
        unread = [one for one, _ in going if parse_id(one) > self._read.get(key, (0, 0))]
        if unread:
            raise Violation("what was not read is not cut", f"{key}: {unread}")
        self._kept[key] = kept[len(going) :]
        self.cut.setdefault(key, []).extend(going)

    def _delete(self, session: str, key: str) -> None:
        if session not in self._purging:
            raise Violation("only what is being deleted is deleted", key)
        self._kept.pop(key, None)
        self.cut.pop(key, None)
        self._read.pop(key, None)
        if key.endswith(":meta"):
            self._purging.discard(session)
            self._status.pop(session, None)
            self.gone.add(session)
            self.ever_gone.add(session)
            self._is_new.add(session)

    def forget(self, session: str) -> None:
        """See Judge. What is to be said of deleted sessions is said here."""

    def check_gone(self, data: Keyspace, partitions: int) -> None:
        """Check that nothing is left of the sessions that were deleted."""
        for number in range(partitions):
            names = NAMESPACE.partition(number)
            keys = [key for key in data.keys if data.kind(key) and names.session_of(key)]
            left = [key for key in keys if names.session_of(key) in self.gone]
            for group in (ORCHESTRATORS, "synthesizers"):
                timers = data.peek(names.timers(group), "zset") or {}
                left += [one.decode() for one in timers if one.decode().split(":")[0] in self.gone]
            known = data.peek(names.sessions, "zset") or {}
            left += [one.decode() for one in known if one.decode() in self.gone]
            if left:
                raise Violation("what is gone is gone whole", ", ".join(left))
