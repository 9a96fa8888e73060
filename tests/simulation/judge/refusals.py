"""An agent that is refused, displaced or declared dead is told so, and no storm of it is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from fabric.core.limits import NOTICE_PAUSE_MS
from fabric.errors import SignalError
from fabric.store.keys import ORCHESTRATORS
from fabric.wire.entry import decode, sender_of
from fabric.wire.record import UNREADABLE_TYPE
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

#: Codes of refusals of which an agent hears once in a while only; it hears of all others.
PACED = frozenset(
    {"HOPS", "LEAP", "SKIPPED", "STALE_INCARNATION", "BREAKER", "ENDED", "RATE", "REUSED"}
    | {"UNREADABLE", "NAME_TAKEN", "CLOSED"}
)

AT_WORK = ("active", "blocked", "paused")
ENDED = ("completed", "failed", "dead")

#: Session and agent.
_Who = tuple[str, str]


class Refusals(Judge):
    """Looks for the message about each refused signal of a registered agent."""

    def __init__(self) -> None:
        self._known: set[_Who] = set()
        #: Agents that have ended, and the incarnation that did.
        self._ended: dict[_Who, int] = {}
        #: When an agent was last told of a refusal, in its session's log time, ms.
        self._told_ms: dict[_Who, int] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS:
            return
        answered = {
            (where, fields[b"cause"], fields[b"to"].decode())
            for where, _, fields in _logged(commit)
            if fields[b"type"] in (b"NOTICE", b"CANCEL")
        }
        for session, entry_id, fields in _logged(commit):
            who = session, fields.get(b"emitter", b"").decode()
            if (fields[b"kind"], fields[b"type"]) == (b"signal", b"RUN_OPENED"):
                # The next run knows nothing of what was told in the one before.
                self._told_ms = {w: ms for w, ms in self._told_ms.items() if w[0] != session}
            if fields[b"kind"] == b"refused":
                is_told = (session, entry_id, who[1]) in answered
                # An agent that registers in this commit may be told already; it need not be.
                self._look(who, fields, is_told=is_told, is_known=who in self._known)
        self._look_at_letters(commit)
        self._look_at_ended(commit)
        for session, changes in commit.hashes("agents"):
            for name, value in changes.items():
                (self._known.discard if value is None else self._known.add)((session, name))
                record = msgspec.json.decode(value or b'{"status":""}')
                if record["status"] in ENDED:
                    self._ended[session, name] = record["incarnation"]
                else:
                    self._ended.pop((session, name), None)

    def _look(
        self, who: _Who, fields: dict[bytes, bytes], *, is_told: bool, is_known: bool
    ) -> None:
        """Check that a refusal is told, unless another was in the second before."""
        if (_text(fields), fields[b"type"]) == ("CLOSED", b"HEARTBEAT") and not is_told:
            return  # CANCEL has told it that the run is closed
        now_ms = int(fields[b"ms"])
        code = "UNREADABLE" if fields[b"type"].decode() == UNREADABLE_TYPE else _text(fields)
        if code == "NAME_TAKEN" and fields[b"type"] == b"STARTED":
            code = "START"  # told at any rate
        last_ms = self._told_ms.get(who, -NOTICE_PAUSE_MS)
        is_soon = now_ms - last_ms < NOTICE_PAUSE_MS
        # Of an agent of the run before, nothing is kept that could pace what it is told.
        if is_told and is_soon and code in PACED and is_known:
            raise Violation(
                "refusals are told once a second at most",
                f"{who}: {code} after {now_ms - last_ms} ms",
            )
        if is_known and not is_told and not (is_soon and code in PACED):
            raise Violation("who is refused is told", f"{who}: {code} {fields}")
        if is_told and (code in PACED or code == "START"):
            self._told_ms[who] = now_ms

    def _look_at_ended(self, commit: Commit) -> None:
        """Check that an agent that has ended is heard again only when it begins anew."""
        begun: set[_Who] = set()
        for session, _, fields in _logged(commit):
            who = session, fields.get(b"emitter", b"").decode()
            if fields[b"kind"] != b"signal" or who not in self._ended:
                continue
            number = int(fields.get(b"incarnation", b"0") or 0)
            if fields[b"type"] == b"STARTED" or number > self._ended[who]:
                begun.add(who)
            elif who not in begun:
                raise Violation("who has ended is not heard", f"{who}: {fields}")

    def _look_at_letters(self, commit: Commit) -> None:
        """Check the same for entries that only the dead letters have."""
        dead = NAMESPACE.partition(commit.lease.partition).dead
        codes = {f[b"id"]: _text(f) for key, _, f in commit.appended if key == dead}
        for entry_id, flat in commit.consumed:
            origin = sender_of(flat) if entry_id in codes else None
            if origin is None or origin not in self._known:
                continue
            # Of the rate it was told in the same second: up to one pause before that began.
            pauses = 2 if codes[entry_id] == "RATE" else 1
            if pauses == 1 and _is_signal(flat):
                continue
            entered_ms = min(int(entry_id.partition(b"-")[0]), commit.now_ms)
            if self._told_ms.get(origin, 0) <= entered_ms - pauses * NOTICE_PAUSE_MS:
                raise Violation("who is refused is told", f"{origin}: {entry_id!r} {flat}")


class Deaths(Judge):
    """Looks for the message to each agent that is declared dead, or replaced, while it works."""

    def __init__(self) -> None:
        self._agents: dict[_Who, dict[str, Any]] = {}
        self._claims: dict[str, dict[str, dict[str, Any]]] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        said: dict[_Who, list[tuple[str, dict[str, Any]]]] = {}
        ended: set[_Who] = set()
        events: Counter[str] = Counter()
        for session, entry_id, fields in _logged(commit):
            events[session] += entry_id.endswith(b"-0")
            kind, name = fields[b"type"].decode(), fields.get(b"to", b"").decode()
            if kind in ("NOTICE", "CANCEL"):
                payload = msgspec.json.decode(fields[b"payload"])
                said.setdefault((session, name), []).append((kind, payload))
            elif kind in ("COMPLETED", "FAILED") and fields[b"kind"] == b"signal":
                ended.add((session, fields[b"emitter"].decode()))
        for session, changes in commit.hashes("agents"):
            for name, value in changes.items():
                who = session, name
                before = self._agents.pop(who, {})
                if value is None:
                    continue
                now = self._agents[who] = msgspec.json.decode(value)
                if before and before["status"] in AT_WORK and who not in ended:
                    told = said.get(who, [])
                    self._look(who, before, now, told, is_alone=events[session] == 1)
        for session, changes in commit.hashes("claims"):
            claims = self._claims.setdefault(session, {})
            for claim_id, value in changes.items():
                claims.pop(claim_id, None)
                if value is not None:
                    claims[claim_id] = msgspec.json.decode(value)

    def _look(
        self,
        who: _Who,
        before: dict[str, Any],
        now: dict[str, Any],
        told: list[tuple[str, dict[str, Any]]],
        *,
        is_alone: bool,
    ) -> None:
        """Check an agent that was at work; `is_alone`: one event has brought it where it is."""
        number = before["incarnation"]
        about = [(kind, one) for kind, one in told if one.get("incarnation") == number]
        deaths = [one for kind, one in about if kind == "CANCEL" and one["code"] == "DEAD"]
        if now["incarnation"] == number:
            if now["status"] in ("completed", "failed") and all(k != "CANCEL" for k, _ in about):
                raise Violation("who is ended is told", f"{who}: {now} and {told}")
            if now["status"] != "dead":
                return
            if not deaths:
                raise Violation("the dead are told", f"{who}: {now} and {told}")
            taken = deaths[0].get("held", []), deaths[0].get("waited", [])
            if is_alone and taken != self._had(who, before):
                raise Violation(
                    "the dead are told what was taken",
                    f"{who}: had {self._had(who, before)}, told {deaths[0]}",
                )
        elif not deaths and all(one["code"] != "REPLACED" for _, one in about):
            raise Violation("the displaced are told", f"{who}: {now} after {before}, and {told}")

    def _had(self, who: _Who, before: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Return what an agent held and what it waited for before this commit."""
        session = self._claims.get(who[0], {})
        claims = [session[claim_id] for claim_id in before.get("claims", [])]
        held = [one for one in claims if one["state"] == "held"]
        named = [name for one in held for name in (*one["writes"], *one.get("reads", []))]
        return named, [*before.get("waits_for", []), *before.get("asks", [])]


def _logged(commit: Commit) -> list[tuple[str, bytes, dict[bytes, bytes]]]:
    """Return the log entries of a commit: session, id, fields."""
    prefix = f"{NAMESPACE.partition(commit.lease.partition).prefix}:"
    return [
        (key.removeprefix(prefix).removesuffix(":log"), entry_id, fields)
        for key, entry_id, fields in commit.appended
        if key.endswith(":log")
    ]


def _text(fields: dict[bytes, bytes]) -> str:
    return fields.get(b"code", b"").decode()


def _is_signal(flat: list[bytes]) -> bool:
    try:
        decode(flat)
    except SignalError:
        return False
    return True
