"""A session rebuilt from its log: the core makes every decision once more.

Theory of operation. The log holds every signal as it was sent, every timer that took effect and
every change of the rules, each with the time by which it was decided. From them, `step` and `fire`
make the same decisions again. What they make is compared with the log, entry by entry. The first
difference ends the replay: nothing after it can be trusted.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

import msgspec

from fabric.client.session import pages
from fabric.core.event import EVERYONE, Decision, Kind, Outcome, Peers, Reading
from fabric.core.rules import Rules
from fabric.core.session import SessionState
from fabric.core.step import fire, skip, step, turn_away
from fabric.errors import CallerError, DivergedError, NotFoundError, SignalError
from fabric.store.keys import SessionKeys
from fabric.store.port import BEGINNING, Entry, Readable
from fabric.store.value import parse_cursor, parse_id, whole_number
from fabric.view.timeline import MS_DIGITS_MAX
from fabric.wire import record
from fabric.wire.entry import decode
from fabric.wire.stored import fields_of, pairs_of, raw, shortened

#: Characters of a value that a difference shows.
SHOWN_CHARS_MAX = 300

#: Digits of a number of agents in a log entry: far more than a partition can have.
COUNT_DIGITS_MAX = 9

#: Kind of a log entry → its fields that the sender did not send.
_OURS = {
    Kind.SIGNAL.value: frozenset((b"kind", b"ms")),
    Kind.REFUSED.value: frozenset((b"kind", b"code", b"reason", b"ms")),
}
_NOTHING = "nothing"

#: The end of a payload that says that an output was inferred: logs from before do not have it.
_MARK = b',"inferred":true}'

#: A decision, None for a change of the rules, and the log entry of its event.
_Decided = tuple[Decision | None, list[bytes]]


@dataclass(frozen=True, slots=True)
class Until:
    """Where to stop: after a log number, or after a time in ms.

    With `from_opening`, the time counts from the opening of the session, in whole seconds as
    `fabric tail` prints them.
    """

    number: int | None = None
    ms: int = 0
    from_opening: bool = False

    def is_before(self, number: int, ms: int, opened_ms: int) -> bool:
        """Whether this place lies before an event."""
        if self.number is not None:
            return number > self.number
        if self.from_opening:
            return (ms - opened_ms) // 1000 * 1000 > self.ms
        return ms > self.ms


def until(text: str) -> Until:
    """Read a log id (`12-0`, `12`), a time since the opening (`1:05`) or RFC 3339 with an offset.

    Raises CallerError.
    """
    if found := re.fullmatch(r"(\d{1,15})(?:-\d{1,15})?", text, re.ASCII):
        return Until(int(found[1]))
    if found := re.fullmatch(r"(\d{1,9}):([0-5]\d)", text, re.ASCII):
        return Until(ms=(int(found[1]) * 60 + int(found[2])) * 1000, from_opening=True)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise CallerError(
            f"until: got {text!r}; a log id (12-0), a time since the session opened (1:05), "
            "or a time with an offset (2025-12-30T19:30:00Z)"
        )
    return Until(ms=round(moment.timestamp() * 1000))


class Replay:
    """Runs the core over log entries, in order, and compares each with what the core makes.

    `delivered` collects the messages that inboxes and the broadcast stream should hold: key, id and
    fields. The caller compares them, or clears the list.
    """

    def __init__(self, keys: SessionKeys, stop: Until | None = None) -> None:
        self.session = SessionState(name=keys.name)
        self.rules = Rules()
        self.delivered: list[tuple[str, bytes, list[bytes]]] = []
        self._keys = keys
        self._stop = stop
        #: Log entries that must follow the last event.
        self._due: deque[tuple[bytes, list[bytes]]] = deque()

    def take(self, entry: Entry) -> bool:
        """Take the next entry; return False if it lies after the end. Raises DivergedError."""
        entry_id, fields = entry
        number, _, part = entry_id.partition(b"-")
        if part == b"0":
            self.finish(entry)
            logged = fields_of(fields)
            stamp = logged.get(b"ms", b"")
            if not stamp.isdigit() or len(stamp) > MS_DIGITS_MAX:
                raise self._diverged(entry_id, "a time in its field ms", _entry(fields))
            ms, opened_ms = int(stamp), self.session.opened_ms
            if self._stop and self._stop.is_before(int(number), ms, opened_ms or ms):
                return False
            if int(number) != self.session.log + 1:
                place = b"%d-0" % (self.session.log + 1)
                raise self._diverged(place, "an event", f"{entry_id.decode()} in its place")
            self._decide(entry_id, fields, logged, ms)
        if not self._due:
            raise self._diverged(entry_id, _NOTHING, _entry(fields))
        due_id, made = self._due.popleft()
        if due_id != entry_id:
            raise self._diverged(due_id, _entry(made), f"{entry_id.decode()} in its place")
        if made != fields and not self._is_unmarked(entry_id, made, fields):
            name, ours, theirs = first_difference(made, fields)
            raise DivergedError(self._keys.log, f"{entry_id.decode()} {name}", ours, theirs)
        return True

    def _is_unmarked(self, entry_id: bytes, made: list[bytes], fields: list[bytes]) -> bool:
        """Whether an entry differs only in that an earlier version did not mark what it inferred.

        Then the records and messages have no mark either.
        """
        unmarked = [_without_mark(item) for item in made]
        if unmarked != fields:
            return False
        payload = msgspec.json.decode(fields_of(fields)[b"payload"])
        on = payload["dependency_id"]
        dependency = self.session.dependencies.records[on]
        dependency.inferred = False
        self.session.dependencies.put(on, dependency)
        self.delivered = [
            (key, one, [*map(_without_mark, flat)] if one == entry_id else flat)
            for key, one, flat in self.delivered
        ]
        return True

    def finish(self, found: Entry | None = None) -> None:
        """Check that no entry is missing after the last event. Raises DivergedError."""
        if self._due:
            entry_id, fields = self._due[0]
            raise self._diverged(
                entry_id, _entry(fields), f"{found[0].decode()} after it" if found else _NOTHING
            )

    def _decide(
        self, entry_id: bytes, fields: list[bytes], logged: dict[bytes, bytes], ms: int
    ) -> None:
        """Decide an event, and note the entries and messages that must follow from it."""
        kind = logged.get(b"kind", b"").decode("utf-8", "replace")
        if logged.get(b"type") == record.UNREADABLE_TYPE.encode() and kind == Kind.REFUSED:
            decision, made = self._unreadable(entry_id, logged, ms)
        elif kind in _OURS:
            decision, made = self._signal(entry_id, fields, _OURS[kind], ms)
        elif kind == record.RULES_KIND:
            decision, made = self._adopt(entry_id, logged.get(b"payload", b""), ms)
        elif logged.get(b"type") == record.OUTAGE_TYPE.encode():
            decision, made = self._outage(entry_id, logged, ms)
        elif logged.get(b"type") == record.TOKENS_TYPE.encode():
            decision, made = self._tokens(entry_id, logged.get(b"token", b""), ms)
        else:
            decision, made = self._timer(entry_id, logged, ms)
        self._due.append((entry_id, made))
        cause = f"{self.session.log}-0"
        for number, message in enumerate(decision.messages if decision else (), 1):
            entry_id = b"%d-%d" % (self.session.log, number)
            entry = record.logged_message(message, cause, self.session.clock_ms)
            self._due.append((entry_id, _flat(*entry)))
            if message.to:
                everyone = message.to == EVERYONE
                key = self._keys.broadcast if everyone else self._keys.inbox(message.to)
                self.delivered.append((key, entry_id, _flat(*record.inbox(message, cause))))

    def _signal(
        self, entry_id: bytes, fields: list[bytes], ours: frozenset[bytes], ms: int
    ) -> _Decided:
        sent = [pair for pair in pairs_of(fields) if pair[0] not in ours]
        try:
            signal = decode([*chain.from_iterable(sent)], is_logged=True)
        except SignalError as error:
            raise self._diverged(entry_id, "a signal", str(error)) from None
        decision = step(self.session, signal, self.rules, ms)
        now_ms = self.session.clock_ms
        if decision.outcome is Outcome.REPEATED:
            raise self._diverged(entry_id, "nothing: it repeats an earlier one", _entry(fields))
        logged = record.logged_signal(signal, now_ms)
        if decision.outcome is Outcome.REFUSED:
            logged = record.logged_refusal(signal, decision.code, decision.reason, now_ms)
        return decision, _flat(*logged)

    def _timer(self, entry_id: bytes, logged: dict[bytes, bytes], ms: int) -> _Decided:
        timer = logged.get(b"timer", b"").decode("utf-8", "replace")
        counts = [logged.get(name, b"0") for name in (b"peers_silent", b"peers_heard")]
        if not all(count.isdigit() and len(count) <= COUNT_DIGITS_MAX for count in counts):
            raise self._diverged(entry_id, "numbers of agents that were counted", repr(counts))
        peers = Peers(*map(int, counts))
        reading = Reading(*map(parse_id, parse_cursor(logged.get(b"read"))))
        decision = fire(self.session, timer, self.rules, ms, peers, reading)
        if decision is None or decision.outcome is Outcome.POSTPONED:
            raise self._diverged(entry_id, f"{_NOTHING}: the timer is moot", f"timer {timer!r}")
        return decision, _flat(*record.logged_timer(timer, self.session.clock_ms, peers, reading))

    def _outage(self, entry_id: bytes, logged: dict[bytes, bytes], ms: int) -> _Decided:
        length = logged.get(b"outage_ms", b"")
        if not length.isdigit() or len(length) > MS_DIGITS_MAX:
            raise self._diverged(entry_id, "a time in its field outage_ms", repr(length))
        decision = skip(self.session, int(length), ms, self.rules)
        if decision is None:
            raise self._diverged(entry_id, f"{_NOTHING}: no agent is alive", "an outage")
        return decision, _flat(*record.logged_outage(int(length), self.session.clock_ms))

    def _tokens(self, entry_id: bytes, token: bytes, ms: int) -> _Decided:
        if (number := whole_number(token)) is None:
            raise self._diverged(entry_id, "a number in its field token", repr(token))
        self.session.begin_tokens(number, ms)
        return None, _flat(*record.logged_tokens(number, self.session.clock_ms))

    def _unreadable(self, entry_id: bytes, logged: dict[bytes, bytes], ms: int) -> _Decided:
        fields = [logged.get(name, b"") for name in (b"emitter", b"code", b"reason")]
        name, code, reason = (field.decode("utf-8", "replace") for field in fields)
        decision = turn_away(self.session, name, code, reason, ms, self.rules)
        if decision is None:
            raise self._diverged(entry_id, f"{_NOTHING}: its sender is not told", "a refusal")
        return decision, _flat(*record.logged_unreadable(name, code, reason, self.session.clock_ms))

    def _adopt(self, entry_id: bytes, payload: bytes, ms: int) -> _Decided:
        try:
            self.rules = record.read_rules(payload)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._diverged(entry_id, "rules", str(error)) from None
        self.session.adopt(record.rules_digest(payload), ms, self.rules.settle_ms)
        return None, _flat(*record.logged_rules(payload, self.session.clock_ms))

    def _diverged(self, entry_id: bytes, made: str, found: str) -> DivergedError:
        return DivergedError(self._keys.log, entry_id.decode(), made, found)


async def rebuild(
    store: Readable,
    keys: SessionKeys,
    stop: Until | None = None,
    note: Callable[[int], None] | None = None,
    also: Callable[[Entry], None] | None = None,
) -> Replay:
    """Replay a log up to `stop` or to its end; give each entry to `also`.

    `note` is called now and then with the number of events so far. Raises NotFoundError when there
    is no log, and DivergedError.
    """
    replay = Replay(keys, stop)
    found = False
    async for page in pages(store, keys, BEGINNING):
        found = True
        for entry in page:
            if not replay.take(entry):
                return replay
            if also is not None:
                also(entry)
        replay.delivered.clear()
        if note is not None:
            note(replay.session.log)
    if not found:
        raise NotFoundError(f"no session {keys.name}: nothing was logged under {keys.log}")
    replay.finish()
    return replay


def first_difference(made: list[bytes], found: list[bytes]) -> tuple[str, str, str]:
    """Return the first field in which two entries differ, and its value in each."""
    ours, theirs = fields_of(made), fields_of(found)
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            return shown(name), shown(ours.get(name)), shown(theirs.get(name))
    return "order of the fields", _entry(made), _entry(found)


def _without_mark(item: bytes) -> bytes:
    return item.removesuffix(_MARK) + b"}" if item.endswith(_MARK) else item


def _flat(form: record.Form, values: record.Values) -> list[bytes]:
    """Return an entry as the server would return it."""
    return [as_bytes(item) for pair in zip(form, values, strict=True) for item in pair]


def as_bytes(item: str | bytes | int) -> bytes:
    """Return an item as the server would return it."""
    return item if isinstance(item, bytes) else raw(item)


def shown(value: bytes | None) -> str:
    """Return a value as a difference shows it."""
    if value is None:
        return _NOTHING
    return shortened(value.decode("utf-8", "replace"), SHOWN_CHARS_MAX)


def _entry(fields: Sequence[bytes]) -> str:
    """Return an entry as a difference shows it."""
    return shown(b" ".join(b"%s=%s" % pair for pair in pairs_of(fields)))
