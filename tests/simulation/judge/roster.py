"""Whom a run expects is waited for: by barriers that begin, and by the synthesis."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.store.keys import ORCHESTRATORS
from fabric.store.port import Entry
from fabric.wire.stored import fields_of
from tests.simulation.judge.judge import Commit, Judge, Violation


class Rosters(Judge):
    """Follows the roster of each session: in the orchestrators' records, and in the results."""

    def __init__(self) -> None:
        #: Session → agent → its record, and barrier → its generation.
        self._rosters: dict[str, dict[str, dict[str, Any]]] = {}
        self._generations: dict[tuple[str, str], int] = {}
        #: Session → expected agents that have no result, and are not absent; those with a result.
        self._awaited: dict[str, set[str]] = {}
        self._heard: dict[str, set[str]] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group == ORCHESTRATORS:
            before = {name: self._open(name) for name in self._rosters}
            self._note_rosters(commit)
            self._look_at_barriers(commit, before)
            return
        for entry in commit.consumed:
            self._note_result(entry)
        for session, changes in commit.hashes("synthesis"):
            raw = changes.get("complete")
            awaited = self._awaited.get(session)
            if raw is not None and awaited and msgspec.json.decode(raw)["final"]:
                raise Violation(
                    "a synthesis is not final while agents are awaited",
                    f"{session}: {sorted(awaited)}: {raw!r}",
                )

    def _open(self, session: str) -> set[str]:
        """Return the agents that have not come and are not absent."""
        known = self._rosters.get(session, {})
        return {name for name, one in known.items() if not one.keys() & {"came_ms", "absent_ms"}}

    def _note_rosters(self, commit: Commit) -> None:
        for session, changes in commit.hashes("roster"):
            known = self._rosters.setdefault(session, {})
            for name, value in changes.items():
                known.pop(name, None)
                if value is not None:
                    known[name] = msgspec.json.decode(value)

    def _look_at_barriers(self, commit: Commit, before: dict[str, set[str]]) -> None:
        """A barrier that has begun has all members that were awaited all through its commit."""
        for session, changes in commit.hashes("barriers"):
            for name, value in changes.items():
                now: dict[str, Any] = {} if value is None else msgspec.json.decode(value)
                if now.get("state") not in ("gathering", "integrating"):
                    continue
                known = self._generations.get((session, name), 0)
                self._generations[session, name] = now["generation"]
                awaited = before.get(session, set()) & self._open(session) - {now["leader"]}
                if known != now["generation"] and not awaited.issubset(now.get("members", [])):
                    where = f"{session}: {sorted(awaited)}: {now}"
                    raise Violation("a barrier waits for expected agents", where)

    def _note_result(self, entry: Entry) -> None:
        fields = fields_of(entry[1])
        session = fields.get(b"session", b"").decode("utf-8", "replace")
        awaited = self._awaited.setdefault(session, set())
        heard = self._heard.setdefault(session, set())
        kind = fields.get(b"type")
        if kind == b"RUN_OPENED":
            awaited.clear()
            heard.clear()
        elif kind == b"AGENTS_EXPECTED":
            told = msgspec.json.decode(fields[b"payload"])
            agents = set(told.get("agents", ()))
            awaited -= agents
            if not told.get("is_absent"):
                awaited |= agents - heard
        elif kind not in (b"DECIDED", b"REFINED", None):
            name = fields.get(b"emitter", b"").decode("utf-8", "replace")
            awaited.discard(name)
            heard.add(name)
