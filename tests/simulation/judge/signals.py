"""Every signal takes effect once, in order; nothing is trimmed too early, nothing is invented."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from fabric.core.contradiction import is_from_synthesizer
from fabric.core.limits import INCARNATIONS_SKIPPED_MAX, SEQUENCE_SKIPPED_MAX
from fabric.core.signal import Signal, SignalType
from fabric.errors import SignalError
from fabric.store.keys import ORCHESTRATORS
from fabric.wire.entry import decode, sender_of
from fabric.wire.record import UNREADABLE_TYPE
from tests.simulation.intruder import BOMB
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

#: What identifies a logged signal: all fields that its sender gave.
_Mark = tuple[bytes, ...]

_NAMED = (b"session", b"type", b"emitter", b"incarnation", b"seq", b"payload")


class Signals(Judge):
    """Accounts for every entry that commits acknowledge, and for every log."""

    def __init__(self) -> None:
        #: Session and agent → incarnation and number of the last signal that took effect.
        self._last: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        #: Key of a log → number of its last event.
        self._logs: dict[str, int] = {}
        #: Signals that took effect or were refused, by session, agent, incarnation and number.
        self._known: dict[tuple[bytes, bytes, int, int], _Mark] = {}
        #: Session and agent → number, type and payload of the last numbered signal that took
        #: effect, whoever sent it in the agent's name.
        self._heard: dict[tuple[bytes, bytes], tuple[int, bytes, bytes]] = {}
        #: Numbers that somebody else has used in an agent's name. What it says itself under one of
        #: them counts as a repeat, if others came between.
        self._forged: set[tuple[bytes, bytes, int]] = set()
        #: Signals that were deleted from the input, perhaps while a worker was deciding them.
        self._deleted: Counter[_Mark] = Counter()
        self.accepted = self.refused = self.repeated = 0
        #: A server that went back may grant an incarnation twice while signals of the first grant
        #: wait: of two signals with one number the second is then a repeat.
        self._is_twice_handed = False

    def went_back(self) -> None:
        """See Judge."""
        self._is_twice_handed = True

    def deleted(self, fields: list[bytes]) -> None:
        """See Judge."""
        with suppress(SignalError):
            self._deleted[_mark_of(decode(fields))] += 1
        if (origin := sender_of(fields)) is not None:
            self._deleted[origin[1].encode(), UNREADABLE_TYPE.encode()] += 1

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.left_after != commit.left:
            raise Violation(
                "nothing un-acknowledged is trimmed",
                f"{commit.partition}: {commit.left} entries behind {commit.upto.decode()} before, "
                f"{commit.left_after} after",
            )
        if commit.lease.group != ORCHESTRATORS:
            return
        names = NAMESPACE.partition(commit.lease.partition)
        buried = [fields[b"id"] for key, _, fields in commit.appended if key == names.dead]
        logged: Counter[_Mark] = Counter()
        for key, entry_id, fields in commit.appended:
            if key.endswith(":log"):
                self._follow(key, entry_id)
                if fields[b"type"] == UNREADABLE_TYPE.encode():
                    logged[fields[b"emitter"], UNREADABLE_TYPE.encode()] += 1
                elif fields[b"kind"] in (b"signal", b"refused"):
                    logged[_mark(fields)] += 1
                    self._take_effect(fields, is_refused=fields[b"kind"] == b"refused")
        self._account(commit, Counter(buried), logged)
        self._compare_messages(commit)

    def replaced(self, key: str, counted: list[list[bytes]], found: list[list[bytes]]) -> None:
        """See Judge."""
        if counted != found:
            detail = f"{key}: {len(counted)} entries counted, it has {len(found)}"
            raise Violation("a stream that is replaced keeps what counts, in order", detail)

    def _follow(self, key: str, entry_id: bytes) -> None:
        """Check that a log has no gaps."""
        number, _, part = entry_id.decode().partition("-")
        last = self._logs.get(key, 0)
        if int(number) != (last + 1 if part == "0" else last):
            raise Violation("the log is dense", f"{key}: {entry_id.decode()} after event {last}")
        self._logs[key] = int(number)

    def _take_effect(self, fields: dict[bytes, bytes], *, is_refused: bool) -> None:
        """Check that a signal takes effect once, and in its agent's order."""
        seq = int(fields.get(b"seq", b"0") or 0)
        incarnation = int(fields.get(b"incarnation", b"0") or 0)
        is_bomb = fields[b"type"] == b"INTENT" and BOMB.encode() in fields[b"payload"]
        if is_bomb and not is_refused:
            raise Violation("costly work is refused", f"{fields}")
        who = fields[b"session"], fields[b"emitter"]
        if seq and not is_refused:
            self._heard[who] = seq, fields[b"type"], fields[b"payload"]
            if not incarnation:
                self._forged.add((*who, seq))
        if not seq or not incarnation:
            return
        if is_refused:
            is_alone = (*who, seq) not in self._forged and not self._is_twice_handed
            if fields[b"code"] == b"REUSED" and is_alone:
                raise Violation("no number is used twice", f"{who}: {fields}")
            self._known.setdefault((*who, incarnation, seq), _mark(fields))
            return
        self._known[*who, incarnation, seq] = _mark(fields)
        last = self._last.get(who, (0, 0))
        if (incarnation, seq) <= last:
            raise Violation(
                "a signal takes effect once, in order",
                f"{who}: number {seq} of incarnation {incarnation} after {last}",
            )
        before = last[1] if incarnation == last[0] else 0
        if seq > before + SEQUENCE_SKIPPED_MAX + 1 or (
            incarnation > last[0] + INCARNATIONS_SKIPPED_MAX + 1
        ):
            raise Violation(
                "no number shuts out its agent",
                f"{who}: number {seq} of incarnation {incarnation} after {last}",
            )
        self._last[who] = incarnation, seq

    def _account(self, commit: Commit, buried: Counter[bytes], logged: Counter[_Mark]) -> None:
        """Check that each acknowledged entry was logged, is a dead letter, or is a repeat."""
        for entry_id, flat in commit.consumed:
            is_buried = buried[entry_id] > 0
            buried[entry_id] -= 1
            try:
                signal = decode(flat)
            except SignalError:
                if not is_buried:
                    raise Violation("nothing is lost", f"{entry_id!r}, no signal: {flat}") from None
                self.refused += 1
                if (origin := sender_of(flat)) is not None:
                    # Its sender is told, unless it was told of another one just now.
                    told = origin[1].encode(), UNREADABLE_TYPE.encode()
                    logged[told] -= logged[told] > 0
                continue
            mark = _mark_of(signal)
            if logged[mark]:
                logged[mark] -= 1
                self.accepted += not is_buried
                self.refused += is_buried
            elif is_buried:
                self.refused += 1
            elif signal.type is SignalType.RUN_PURGED and is_from_synthesizer(signal):
                continue  # its part is done; the log is about to go
            elif self._is_known(signal):
                self.repeated += 1
            else:
                raise Violation("nothing is lost", f"{entry_id!r}: {mark}")
        invented = [mark for mark, count in logged.items() if count > self._deleted[mark]]
        if invented:
            raise Violation("nothing is invented", f"{invented[0]}")

    def _is_known(self, signal: Signal) -> bool:
        last = self._last.get((signal.session.encode(), signal.emitter.encode()))
        if last is None or not signal.seq:
            return False
        incarnation = signal.incarnation or last[0]
        who = signal.session.encode(), signal.emitter.encode(), incarnation, signal.seq
        known = self._known.get(who)
        fields = dict(zip(signal.names, signal.values, strict=True))
        if self._is_twice_handed or not signal.incarnation:
            return (incarnation, signal.seq) <= last or (*who[:2], signal.seq) in self._forged
        heard = self._heard[who[:2]]
        if incarnation == last[0] and signal.seq == heard[0]:
            # Another signal under the number of the last one is no repeat of it.
            return heard[1:] == (fields[b"type"], fields[b"payload"])
        if (*who[:2], signal.seq) in self._forged:
            return True
        # A number that was skipped is none that was heard: nothing can repeat it.
        # Of two different signals with one number, one would be lost as a repeat. Refused signals
        # are known too.
        return known == _mark(fields)

    def _compare_messages(self, commit: Commit) -> None:
        """Check that every message of an inbox is in the log, with the same id and cause."""
        logs = {
            (key.removesuffix(":log"), entry_id): fields
            for key, entry_id, fields in commit.appended
            if key.endswith(":log")
        }
        for key, entry_id, fields in commit.appended:
            session, separator, _ = key.partition(":inbox:")
            if not separator:
                session, separator, _ = key.partition(":broadcast")
            if not separator:
                continue
            entry = logs.get((session, entry_id))
            if entry is None or entry[b"cause"] != fields[b"cause"]:
                raise Violation("messages are what the log says", f"{key} {entry_id!r}: {fields}")


def _mark_of(signal: Signal) -> _Mark:
    return _mark(dict(zip(signal.names, signal.values, strict=True)))


def _mark(fields: dict[bytes, bytes]) -> _Mark:
    return tuple(fields.get(name, b"") for name in _NAMED)
