"""What was left unfinished: resources whose writer failed, died or was replaced while it held them;
or that it has given back as unfinished.

The next agent that is granted one is told (`after` of PROCEED): the file may be half written. It
stays so until an agent that holds it gives it back in good order: with RELEASE, or with COMPLETED.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fabric.core.directive import Unfinished
from fabric.core.limits import NAMES_SHOWN_MAX
from fabric.core.record import AgentRecord, AgentStatus, LeftRecord
from fabric.core.resource import Index, is_glob
from fabric.core.resource_name import folder_names

#: How an incarnation ended that another one has replaced while it was at work.
REPLACED = "replaced"

#: An agent has given it back like that, by its own word.
UNFINISHED = "unfinished"

#: Resources that an agent's record keeps as unfinished, the last ones: it may hold ten thousand.
LEFT_MAX = 1_000


class Leftovers:
    """The unfinished resources of a session; they follow from the agents' records."""

    def __init__(
        self, agents: Mapping[str, AgentRecord], put: Callable[[str, AgentRecord], None]
    ) -> None:
        """`agents` is the table's own dictionary; `put` keeps a record that has changed."""
        self._records = agents
        self._put = put
        self._index = Index()
        #: Resource → the agents that left it, with agents among them that are no longer kept.
        self._agents: dict[str, set[str]] = {}
        for name, agent in agents.items():
            self._add(name, agent.left)

    def leave(
        self,
        name: str,
        agent: AgentRecord,
        resources: Iterable[str],
        now_ms: int,
        how: str = REPLACED,
        *,
        copy: str = "",
    ) -> None:
        """Note what an agent held for writing; if its incarnation has ended, how it ended."""
        if agent.status in (AgentStatus.FAILED, AgentStatus.DEAD):
            how = agent.status.value
        left = dict(agent.left)
        for resource in resources:
            left.pop(resource, None)
            left[resource] = LeftRecord(how, now_ms, copy)
        agent.left = dict(list(left.items())[-LEFT_MAX:])
        self._add(name, agent.left)
        self._put(name, agent)

    def settle(self, resources: Iterable[str], copy: str = "") -> None:
        """Forget what these resources cover: they were given back in good order.

        With a copy of the files, only what was left there, or nobody knows where.
        """
        if not self._agents:
            return
        for resource in resources:
            same = folder_names(resource)
            for left in self._index.overlapping(resource):
                is_part = not is_glob(left) and not resource.startswith(f"{left}/")
                if left in same or is_part:
                    self._forget(left, copy)

    def near(self, resources: Iterable[str], copy: str = "") -> list[Unfinished]:
        """Return what an agent that is granted resources must know of those before it.

        With a copy of the files: of those that were in the same, or nobody knows where.
        """
        if not self._agents:
            return []
        near = (left for resource in resources for left in self._index.overlapping(resource))
        found: list[Unfinished] = []
        for left in dict.fromkeys(near):
            for name in sorted(self._agents[left]):
                agent = self._records.get(name)
                how = agent.left.get(left) if agent is not None else None
                if how is not None and not (copy and how.copy and how.copy != copy):
                    found.append(Unfinished(left, name, how.how, how.since_ms))
            if len(found) >= NAMES_SHOWN_MAX:
                break
        return found[:NAMES_SHOWN_MAX]

    def _add(self, name: str, resources: Iterable[str]) -> None:
        for resource in resources:
            self._index.add(resource)
            self._agents.setdefault(resource, set()).add(name)

    def _forget(self, left: str, copy: str) -> None:
        kept: set[str] = set()
        for name in sorted(self._agents.pop(left)):
            agent = self._records.get(name)
            if agent is None or left not in agent.left:
                continue
            where = agent.left[left].copy
            if copy and where and where != copy:
                kept.add(name)
                continue
            agent.left = {one: how for one, how in agent.left.items() if one != left}
            self._put(name, agent)
        if kept:
            self._agents[left] = kept
        else:
            self._index.remove(left)
