"""Agents that share a quota wait while it is used up."""

from __future__ import annotations

from typing import Any

import msgspec

from fabric.core.quota import PREFIX
from fabric.store.keys import ORCHESTRATORS
from tests.simulation.judge.judge import NAMESPACE, Commit, Judge, Violation

AT_WORK = ("active", "blocked", "paused")


class Quotas(Judge):
    """Compares each quota that begins, and each agent that begins, with the waits for it."""

    def __init__(self) -> None:
        #: Session and agent → its record.
        self._agents: dict[str, dict[str, dict[str, Any]]] = {}
        #: Session → quota → its record while it is in force.
        self._quotas: dict[str, dict[str, dict[str, Any]]] = {}

    def committed(self, commit: Commit) -> None:
        """See Judge."""
        if commit.lease.group != ORCHESTRATORS:
            return
        known = {session: dict(quotas) for session, quotas in self._quotas.items()}
        for session, changes in commit.hashes("agents"):
            agents = self._agents.setdefault(session, {})
            for name, value in changes.items():
                agents.pop(name, None)
                if value is not None:
                    agents[name] = msgspec.json.decode(value)
        for session, changes in commit.hashes("dependencies"):
            self._note(session, changes)
            for on, quota in self._quotas[session].items():
                if on not in known.get(session, {}):
                    for name, agent in self._agents.get(session, {}).items():
                        if on.removeprefix(PREFIX) in agent.get("quotas", ()):
                            self._look(session, name, on, quota)
        prefix = f"{NAMESPACE.partition(commit.lease.partition).prefix}:"
        for key, _, fields in commit.appended:
            session = key.removeprefix(prefix).removesuffix(":log")
            if key.endswith(":log") and session in self._quotas:
                self._follow(session, fields, known.get(session, {}))

    def _follow(
        self, session: str, fields: dict[bytes, bytes], known: dict[str, dict[str, Any]]
    ) -> None:
        """Check that an agent which begins waits for the quotas in force that it declares."""
        now_ms = int(fields[b"ms"])
        for on, quota in self._quotas[session].items():
            if (fields[b"kind"], fields[b"type"]) != (b"signal", b"STARTED"):
                continue
            declared = msgspec.json.decode(fields[b"payload"]).get("quotas", ())
            if (
                on in known
                and known[on]["until_ms"] > now_ms
                and on.removeprefix(PREFIX) in declared
            ):
                self._look(session, fields[b"emitter"].decode(), on, quota)

    def _note(self, session: str, changes: dict[str, bytes | None]) -> None:
        quotas = self._quotas.setdefault(session, {})
        for name, value in changes.items():
            if name.startswith(PREFIX):
                quota = msgspec.json.decode(value) if value is not None else {}
                if quota.get("until_ms"):
                    quotas[name] = quota
                else:
                    quotas.pop(name, None)

    def _look(self, session: str, name: str, on: str, quota: dict[str, Any]) -> None:
        status = self._agents[session].get(name, {}).get("status")
        if status in AT_WORK and name not in quota.get("waiters", {}):
            raise Violation("who shares a quota waits for it", f"{session}: {name}, {on} {quota}")
