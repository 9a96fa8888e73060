"""An agent that gets a grant, or whose wait ends, is told in the same commit."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.run import CLOSED
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

ENDED = ("completed", "failed", "dead")

#: A message of a commit: its recipient (an agent, or "*"), type and payload.
_Said = list[tuple[str, str, dict[str, Any]]]


class Notices(Judge):
    """Compares the changes of records with the messages in the same commit."""

    def __init__(self) -> None:
        #: Session and name → the record as last committed.
        self._dependencies: dict[tuple[str, str], dict[str, Any]] = {}
        self._barriers: dict[tuple[str, str], dict[str, Any]] = {}
        self._tokens: dict[tuple[str, str], int] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        for session, changes in commit.hashes("claims"):
            self._look_at_claims(session, changes, said(commit, session))
        for session, changes in commit.hashes("barriers"):
            self._look_at_barriers(session, changes, said(commit, session))
        self._look_at_pauses(commit)
        for session, changes in commit.hashes("dependencies"):
            self._look_at_dependencies(commit, session, changes, said(commit, session))

    def _look_at_claims(self, session: str, changes: dict[str, bytes | None], said: _Said) -> None:
        for claim_id, value in changes.items():
            claim = msgspec.json.decode(value) if value is not None else {}
            token = claim.get("token", 0)
            if token and token != self._tokens.get((session, claim_id)):
                proceeds = [p for to, kind, p in said if to == claim["agent"] and kind == "PROCEED"]
                if not any(payload.get("token") == token for payload in proceeds):
                    raise Violation(
                        "who is granted is told", f"{session}: {claim_id} has token {token}"
                    )
            self._tokens[session, claim_id] = token

    def _look_at_barriers(
        self, session: str, changes: dict[str, bytes | None], said: _Said
    ) -> None:
        for name, value in changes.items():
            if value is None:
                continue
            now = msgspec.json.decode(value)
            before = self._barriers.get((session, name), {})
            self._barriers[session, name] = now
            is_same = before.get("generation") == now["generation"]
            if not is_same or before.get("state") not in ("gathering", "integrating"):
                continue
            about = [(to, kind) for to, kind, p in said if p.get("barrier") == name]
            if any(kind == "CANCEL" and p.get("code") == CLOSED for _, kind, p in said):
                continue  # the run is closed: each agent hears that instead
            if now["state"] == "over" and ("*", "RESUME") not in about:
                raise Violation("all are told to go on", f"{session}: {name} is over: {now}")
            opens = now["state"] == "integrating" and before["state"] == "gathering"
            if opens and (now["leader"], "PROCEED") not in about:
                raise Violation("the leader is told", f"{session}: {name} is open: {now}")

    def _look_at_pauses(self, commit: Commit) -> None:
        """Check that a barrier lists every agent that it pauses: its end resumes only these."""
        for session in {session for session, _ in commit.hashes("agents")}:
            gone = {who for who, one in _agents(commit, session) if one["status"] in ENDED}
            for to, kind, payload in said(commit, session):
                now = self._barriers.get((session, payload.get("barrier", "")))
                if kind != "PAUSE" or now is None or to in gone or to == "*":
                    continue
                is_past = now["generation"] != payload["generation"] or now["state"] == "over"
                counted = {*now.get("members", ()), *now.get("held", ()), now["leader"]}
                if not is_past and to not in counted:
                    raise Violation("who is stopped is counted", f"{session}: {to} in {now}")

    def _look_at_dependencies(
        self, commit: Commit, session: str, changes: dict[str, bytes | None], said: _Said
    ) -> None:
        for name, value in changes.items():
            if value is None:
                continue
            now = msgspec.json.decode(value)
            before = self._dependencies.get((session, name), {})
            self._dependencies[session, name] = now
            if now.get("status") != "resolved" or len(commit.consumed) != 1:
                continue  # another event of a larger batch may have ended a wait
            told = {to for to, kind, _ in said if kind == "DEPENDENCY_RESOLVED"}
            # An agent that ended in the same event no longer waits.
            ended = {who for who, one in _agents(commit, session) if one["status"] in ENDED}
            missed = set(before.get("waiters", {})) - told - ended
            if missed:
                raise Violation(
                    "no waiter is forgotten", f"{session}: {name} is there, {missed} not told"
                )


def _agents(commit: Commit, session: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, msgspec.json.decode(value))
        for found, changes in commit.hashes("agents")
        for name, value in changes.items()
        if found == session and value is not None
    ]


def said(commit: Commit, session: str) -> _Said:
    """Return the messages that a commit sends in a session."""
    prefix = NAMESPACE.partition(commit.lease.partition).session(session).prefix
    found: _Said = []
    for key, _, fields in commit.appended:
        if key == f"{prefix}:broadcast":
            to = "*"
        elif key.startswith(f"{prefix}:inbox:"):
            to = key.removeprefix(f"{prefix}:inbox:")
        else:
            continue
        found.append((to, fields[b"type"].decode(), msgspec.json.decode(fields[b"payload"])))
    return found
