"""One name, one agent; and whoever writes a path that another copy has written is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation
from tests.simulation.judge.notices import ENDED, said


class Identities(Judge):
    """Follows which living process has each agent's name."""

    def __init__(self) -> None:
        #: Session and name → the record as last committed.
        self._agents: dict[tuple[str, str], dict[str, Any]] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        for session, changes in commit.hashes("agents"):
            replacing = _replacing(commit, session)
            for name, value in changes.items():
                now = {} if value is None else msgspec.json.decode(value)
                before = self._agents.get((session, name), {})
                self._agents[session, name] = now
                had, has = before.get("instance", ""), now.get("instance", "")
                is_open = before.get("status") not in (None, *ENDED) and now
                if is_open and had and had != has and name not in replacing:
                    detail = f"{session}: {name} is {has or 'nobody'}, and was {had}"
                    raise Violation("a name belongs to one living process", detail)


class Merges(Judge):
    """Follows which copies of the files have written each path, where copies are kept apart."""

    def __init__(self) -> None:
        #: Session and path → copies.
        self._written: dict[tuple[str, str], set[str]] = {}
        self._tokens: dict[tuple[str, str], int] = {}
        #: Session → path → what the server has of it; and session → claim → the same.
        self._records: dict[str, dict[str, Any]] = {}
        self._claims: dict[str, dict[str, Any]] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        self._check_trials(commit)
        for session, changes in commit.hashes("claims"):
            for claim_id, value in changes.items():
                claim = {} if value is None else msgspec.json.decode(value)
                token, copy = claim.get("token", 0), claim.get("copy", "")
                is_new = token > self._tokens.get((session, claim_id), 0)
                self._tokens[session, claim_id] = token
                for path in claim["writes"] if is_new and copy else ():
                    copies = self._written.setdefault((session, path), set())
                    if copies and copy not in copies:
                        self._check(commit, session, claim["agent"], path)
                    copies.add(copy)

    def _check_trials(self, commit: Commit) -> None:
        """Check what git is said to have found, after all changes of a commit."""
        for session, changes in commit.hashes("claims"):
            _follow(self._claims.setdefault(session, {}), changes)
        for session, changes in commit.hashes("written"):
            known = self._records.setdefault(session, {})
            for _, kind, payload in said(commit, session):
                if kind == "CONFLICT_DETECTED" and payload.get("copies"):
                    for path in payload["resources"]:
                        if payload.get("seen", 0) < known.get(path, {}).get("log", 0):
                            detail = f"{session}: {payload}, granted since"
                            raise Violation("nobody is told of an outdated trial", detail)
            before = dict(known)
            _follow(known, changes)
            for path, record in known.items():
                for trial in record.get("tried", ()):
                    self._check_trial(session, path, record, trial, before.get(path, {}))

    def _check_trial(
        self,
        session: str,
        path: str,
        record: dict[str, Any],
        trial: dict[str, Any],
        before: dict[str, Any],
    ) -> None:
        pair, detail = trial["copies"], f"{session}: {path} {record}"
        if not set(pair) <= record["copies"].keys():
            raise Violation("copies that are tried have written the path", detail)
        for earlier in before.get("tried", ()):
            if earlier["copies"] == pair and earlier["log"] > trial["log"]:
                raise Violation("an older trial replaces none", detail)
        for claim in self._claims.get(session, {}).values():
            is_held = claim["state"] == "held" and path in claim["writes"]
            if is_held and claim.get("copy") in pair and trial["log"] >= record["log"]:
                raise Violation("a trial counts for nothing while the path is written", detail)

    def _check(self, commit: Commit, session: str, agent: str, path: str) -> None:
        for to, kind, payload in said(commit, session):
            is_merge = kind == "CONFLICT_DETECTED" and payload.get("kind") == "merge"
            if is_merge and to == agent and path in payload["resources"]:
                return
        detail = f"{session}: {agent} writes {path}, which other copies have written"
        raise Violation("what will have to be merged is told", detail)


def _follow(known: dict[str, Any], changes: Mapping[str, bytes | None]) -> None:
    """Bring records up to date with the changes of a hash."""
    for name, value in changes.items():
        if value is None:
            known.pop(name, None)
        else:
            known[name] = msgspec.json.decode(value)


def _replacing(commit: Commit, session: str) -> set[str]:
    """Name the agents that begin with a take-over, or without an instance, or begin twice."""
    key = NAMESPACE.partition(commit.lease.partition).session(session).log
    found, ended = set(), set()
    for where, _, fields in commit.appended:
        # One whose declarations were refused has begun all the same.
        if where != key or fields.get(b"kind") not in (b"signal", b"refused"):
            continue
        if fields.get(b"code") == b"NAME_TAKEN":
            continue
        name = fields[b"emitter"].decode()
        if fields[b"type"] in (b"COMPLETED", b"FAILED"):
            ended.add(name)
        if fields[b"type"] == b"STARTED" and (
            name in ended or b"takes_over" in fields[b"payload"] or not fields.get(b"instance")
        ):
            found.add(name)
    return found
