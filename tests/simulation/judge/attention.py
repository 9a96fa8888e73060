"""Whoever goes on against an unread CANCEL is asked about; nobody who has read it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from fabric.store.keys import ORCHESTRATORS
from fabric.store.value import Id, parse_id
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation
from tests.simulation.judge.notices import ENDED

#: How late a look may be, and how long what was read may still be unknown to a worker, ms.
LATE_MS = 15_000


@dataclass
class _Order:
    """The CANCEL to an agent: its id, when it was sent and read, and when the agent went on, ms."""

    id: Id
    sent_ms: int
    read_ms: int = 0
    went_on_ms: int = 0
    is_asked: bool = False


class Attention(Judge):
    """Follows each CANCEL of a group that has failed, to its reading or the question about it."""

    def __init__(self, unread_ms_max: int) -> None:
        self._limit_ms = unread_ms_max
        #: Session and agent → the order; whether the agent has ended.
        self._orders: dict[tuple[str, str], _Order] = {}
        self._now_ms = 0

    def was_read(self, cursors: str, agent: str, entry_id: bytes) -> None:
        """See Judge."""
        for (session, name), order in self._orders.items():
            is_same = name == agent and cursors.endswith(f":{session}:cursors")
            if is_same and not order.read_ms and parse_id(entry_id.split()[0]) >= order.id:
                order.read_ms = self._now_ms

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        self._now_ms = commit.now_ms
        if commit.lease.group != ORCHESTRATORS or not self._limit_ms:
            return
        for session, changes in commit.hashes("agents"):
            for name, value in changes.items():
                agent: dict[str, Any] = {} if value is None else msgspec.json.decode(value)
                if agent.get("status") in (None, *ENDED) or not agent.get("cancelled"):
                    self._orders.pop((session, name), None)
            self._look_at_messages(commit, session)
        for session, changes in commit.hashes("escalations"):
            self._look_at_questions(commit, session, changes)
        for (session, name), order in self._orders.items():
            is_heeded = order.read_ms or order.is_asked or not order.went_on_ms
            # A look that finds nothing is followed by another after as long again.
            due_ms = max(order.sent_ms, order.went_on_ms) + 2 * self._limit_ms + LATE_MS
            if not is_heeded and commit.now_ms > due_ms:
                detail = f"{session}: {name} since {order.sent_ms}, now {commit.now_ms}: {order}"
                raise Violation("who goes on without reading is asked about", detail)

    def _look_at_messages(self, commit: Commit, session: str) -> None:
        keys = NAMESPACE.partition(commit.lease.partition).session(session)
        for key, entry_id, fields in commit.appended:
            if key == keys.log and fields.get(b"kind") == b"signal":
                name = fields[b"emitter"].decode()
                order = self._orders.get((session, name))
                if order is not None and fields[b"type"] != b"HEARTBEAT":
                    order.went_on_ms = int(fields[b"ms"])
            elif key.startswith(keys.inbox("")) and _is_stop(fields):
                name = key.removeprefix(keys.inbox(""))
                self._orders[session, name] = _Order(parse_id(entry_id), commit.now_ms)

    def _look_at_questions(
        self, commit: Commit, session: str, changes: dict[str, bytes | None]
    ) -> None:
        for value in changes.values():
            asked = {} if value is None else msgspec.json.decode(value)
            order = self._orders.get((session, asked.get("about", "")))
            if asked.get("subject") != "unread" or asked["state"] != "open" or order is None:
                continue
            order.is_asked = True
            if order.read_ms and asked["asked_ms"] > order.read_ms + LATE_MS:
                raise Violation("who has read is not asked about", f"{session}: {asked}: {order}")


def _is_stop(fields: dict[bytes, bytes]) -> bool:
    is_cancel = fields[b"type"] == b"CANCEL"
    return is_cancel and msgspec.json.decode(fields[b"payload"]).get("code") == "FAIL_FAST"
