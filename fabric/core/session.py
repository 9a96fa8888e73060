"""A session's state: named records in tables, and which of them have changed.

`step` changes the records in place; the worker takes the changes of a whole batch at once and
writes them in the commit that also holds the batch's messages.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from typing import Any, Generic, TypeVar

from fabric.core import record
from fabric.core.copies import Written
from fabric.core.handover import Leftovers
from fabric.core.limits import SETTLE_MS
from fabric.core.order import Order
from fabric.core.task import Backlog, TaskRecord

R = TypeVar("R")


#: One agent's share of a table is this part of it, and at least so many records.
SHARE = 10
SHARE_MIN = 1_000

#: The last part of a table, a fifth, is for agents that have at most so many records in it: ten
#: names with a whole share each do not keep all others out. Small tables have no such part.
RESERVE = 5
RESERVED_EACH = 5


def is_reserved(mine: int, total: int, most: int) -> bool:
    """Whether a table with `total` records keeps its rest from an agent that would have `mine`."""
    return most >= SHARE_MIN and mine > RESERVED_EACH and total > most - most // RESERVE


def reserved(most: int) -> str:
    """Say for whom the last part of a table is kept."""
    return (
        f"the last {most // RESERVE} of the session's {most} are kept for agents that have "
        f"{RESERVED_EACH} or fewer"
    )


#: Of all tables whose records are there for nobody: a session has five, and a worker thousands.
_NOBODYS: Counter[str] = Counter()


@dataclass(slots=True, eq=False)
class Table(Generic[R]):
    """Records of one kind by name, remembering which were changed or dropped.

    `owner` names the agent that a record is there for, "" for none; `owned` counts them.
    """

    records: dict[str, R] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    owner: Callable[[R], str] | None = None
    owned: Counter[str] = field(default_factory=lambda: _NOBODYS)
    _owners: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, name: object) -> bool:
        return name in self.records

    def get(self, name: str) -> R | None:
        """Return the record to read. A caller that changes it must `put` it back."""
        return self.records.get(name)

    def put(self, name: str, value: R) -> None:
        """Keep a new or a changed record."""
        self.records[name] = value
        self.changed.add(name)
        if self.owner is not None:
            self._own(name, self.owner(value))

    def drop(self, name: str) -> None:
        """Forget a record."""
        self.records.pop(name, None)
        self.changed.add(name)
        self._own(name, "")

    def count_by(self, owner: Callable[[R], str]) -> None:
        """Count the records by their owners from here on."""
        self.owner, self.owned = owner, Counter()
        for name, value in self.records.items():
            self._own(name, owner(value))

    def unowned(self) -> list[str]:
        """Name the records that are there for no agent, in their order."""
        return sorted(self.records.keys() - self._owners.keys())

    def fault(self, name: str, more: int, most: int) -> str:
        """Say that an agent's share of the table is used up; "" when it has room for more."""
        share = max(most // SHARE, SHARE_MIN)
        mine = self.owned[name] + more
        if mine > min(share, most):
            return f"{name} would have {mine} of them, and one agent may have {share}"
        if most > SHARE_MIN and is_reserved(mine, len(self) + more, most):
            return f"{name} would have {mine} of them, and {reserved(most)}"
        return ""

    def _own(self, name: str, owner: str) -> None:
        before = self._owners.get(name, "")
        if owner == before:
            return
        if before:
            self.owned[before] -= 1
            del self._owners[name]
        if owner:
            self.owned[owner] += 1
            self._owners[name] = owner

    def take_changes(self) -> dict[str, R | None]:
        """Return what has changed since the last call, None for what was dropped."""
        changes = {name: self.records.get(name) for name in sorted(self.changed)}
        self.changed.clear()
        return changes


class Spare:
    """Agents that have room for another task, in the order in which they are offered one.

    Idle agents come first, then those with fewer offers, then by name. It follows from the agents'
    records: a change of room, task, offers or stream is noted.
    """

    def __init__(self, agents: Mapping[str, record.AgentRecord]) -> None:
        #: Agent → its stream and its place.
        self._places: dict[str, tuple[str, tuple[bool, int, str]]] = {}
        self._all: list[tuple[bool, int, str]] = []
        self._streams: dict[str, list[tuple[bool, int, str]]] = {}
        for name, agent in agents.items():
            self.note(name, agent)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def note(self, name: str, agent: record.AgentRecord) -> None:
        """Take up an agent's record that has changed."""
        known = self._places.get(name)
        now = agent.stream, (bool(agent.task), len(agent.offers), name)
        if agent.capacity > 0 and known == now:
            return
        if known is not None:
            del self._places[name]
            stream, place = known
            for places in (self._all, self._streams[stream]):
                del places[bisect_left(places, place)]
            if not self._streams[stream]:
                del self._streams[stream]
        if agent.capacity > 0:
            self._places[name] = now
            for places in (self._all, self._streams.setdefault(now[0], [])):
                insort(places, now[1])

    def clear(self) -> None:
        """Let nobody have room."""
        self._places.clear()
        self._all.clear()
        self._streams.clear()

    def names(self, streams: Collection[str] | None = None) -> Iterator[str]:
        """Name those that have room now, in their order: all, or those of some streams."""
        if streams is None:
            found = self._all[:]
            return (name for _, _, name in found)
        lists = [self._streams[one][:] for one in streams if one in self._streams]
        return (name for _, _, name in merge(*lists))


class Disputes:
    """The questions about contradictions that are not asked by themselves; from their records.

    `in_grace` are those that no digest names yet, `named` those that the open one names, `digest`.
    """

    def __init__(self, questions: Mapping[str, record.EscalationRecord]) -> None:
        asked = {name: one for name, one in questions.items() if one.is_open}
        self.in_grace = {name for name, one in asked.items() if one.in_grace}
        self.digest = next((name for name, one in asked.items() if one.subject == "digest"), "")
        self.named = {
            name for name, one in asked.items() if one.digest and one.digest == self.digest
        }

    def clear(self) -> None:
        """Forget all of them."""
        self.in_grace.clear()
        self.end_digest()

    def end_digest(self) -> None:
        """Nobody is asked about what the digest names any more."""
        self.named.clear()
        self.digest = ""


@dataclass(slots=True, kw_only=True, eq=False)
class SessionState:
    """Everything the rules know about one session.

    `order` has the holders and the queue of each resource; it follows from the claims. `backlog`
    says which tasks are ready; it follows from the tasks. `deadlocks` names the open questions
    about deadlocks, `mass_silence` the last question about such a silence.
    """

    name: str
    #: Events so far (signals, refusals, timers): the n-th is log entry `n-0`, what follows from it
    #: is `n-1`, `n-2` and so on.
    log: int = 0
    #: Latest server time seen; it never goes back.
    clock_ms: int = 0
    opened_ms: int = 0
    #: The last fencing token.
    token: int = 0
    #: Digest of the rules in force, by the log; "" for the defaults.
    rules: str = ""
    #: How long all agents must have ended before the run counts as over, by those rules, ms.
    settle_ms: int = SETTLE_MS
    #: The number of the run, and when and by whom it was closed; 0 and "" while it is open.
    run: int = 1
    closed_ms: int = 0
    closed_by: str = ""
    #: Everything of it is being deleted: nothing is decided any more.
    is_purging: bool = False
    agents: Table[record.AgentRecord] = field(default_factory=Table)
    tasks: Table[TaskRecord] = field(default_factory=Table)
    dependencies: Table[record.DependencyRecord] = field(default_factory=Table)
    claims: Table[record.ClaimRecord] = field(default_factory=Table)
    barriers: Table[record.BarrierRecord] = field(default_factory=Table)
    escalations: Table[record.EscalationRecord] = field(default_factory=Table)
    #: Agents that are no longer kept: a name that comes back must not be an old incarnation.
    retired: Table[record.RetiredRecord] = field(default_factory=Table)
    #: Paths that were written in copies of the files, where the rules keep copies apart.
    written: Table[record.WrittenRecord] = field(default_factory=Table)
    #: The agents that the run expects, whether they have come or not.
    roster: Table[record.ExpectedRecord] = field(default_factory=Table)
    order: Order = field(init=False)
    #: What agents left unfinished: it follows from their records.
    leftovers: Leftovers = field(init=False)
    #: The same paths, by what overlaps.
    copies: Written = field(init=False)
    backlog: Backlog = field(init=False)
    #: The Balance of `balance.py`, which stands above this module; None until it is first needed.
    balance: object = field(init=False, default=None)
    #: Agents that have room for another task, as they have said.
    spare: Spare = field(init=False)
    deadlocks: set[str] = field(init=False)
    disputes: Disputes = field(init=False)
    #: Log number after which no agent could make room, so that nobody looks again before the next
    #: event of another kind. It follows from the records, and is kept nowhere.
    full_log: int = -1
    mass_silence: str = field(init=False)

    def __post_init__(self) -> None:
        self.order = Order(self.claims.records)
        self.leftovers = Leftovers(self.agents.records, self.agents.put)
        self.copies = Written(self.written.records)
        self.backlog = Backlog(self.tasks.records)
        self.spare = Spare(self.agents.records)
        self.tasks.count_by(lambda task: task.added_by)
        self.dependencies.count_by(_owner_of_dependency)
        self.barriers.count_by(lambda barrier: barrier.leader)
        self.escalations.count_by(lambda asked: asked.asker if asked.is_open else "")
        self.deadlocks = {
            name
            for name, question in self.escalations.records.items()
            if question.subject == "deadlock" and question.is_open
        }
        self.disputes = Disputes(self.escalations.records)
        known = self.escalations.records.items()
        asked = [(one.asked_ms, name) for name, one in known if one.subject == "mass_silence"]
        self.mass_silence = max(asked, default=(0, ""))[1]

    def claims_of(self, agent: record.AgentRecord) -> list[record.ClaimRecord]:
        """Return an agent's claims, held and waiting, oldest first."""
        return list(map(self.claims.records.__getitem__, agent.claims))

    def waiting_claims(self, agent: record.AgentRecord) -> list[record.ClaimRecord]:
        """Return the claims that an agent waits for, oldest first."""
        waiting = record.ClaimState.WAITING
        return [claim for claim in self.claims_of(agent) if claim.state is waiting]

    def awaited(self) -> list[str]:
        """Name the expected agents that have not come, and may still, sorted."""
        return sorted(name for name, one in self.roster.records.items() if one.is_awaited)

    def keep_task(self, name: str, task: TaskRecord) -> None:
        """Keep a task that is new, or whose status or place in the order has changed."""
        self.tasks.put(name, task)
        self.backlog.note(name)

    def tick(self, now_ms: int) -> None:
        """Move the clock on; a time before the last one is ignored."""
        if now_ms > self.clock_ms:
            self.clock_ms = now_ms
        if not self.opened_ms:
            self.opened_ms = self.clock_ms

    def begin_run(self) -> None:
        """Empty the records for the next run; the log, the tokens and the retired agents stay."""
        self.run += 1
        self.closed_ms, self.closed_by = 0, ""
        tables: list[Table[Any]] = [self.agents, self.tasks, self.dependencies]
        tables += [self.claims, self.barriers, self.escalations, self.written, self.roster]
        for table in tables:
            for name in list(table.records):
                table.drop(name)
        self.leftovers = Leftovers(self.agents.records, self.agents.put)
        self.copies = Written(self.written.records)
        self.backlog, self.balance = Backlog(self.tasks.records), None
        self.spare.clear()
        self.deadlocks.clear()
        self.disputes.clear()
        self.mass_silence, self.full_log = "", -1

    def begin_tokens(self, token: int, now_ms: int) -> None:
        """Go on above a fencing token: of sessions that were deleted, or of a history that the
        server may have lost. Takes a log number.
        """
        self.tick(now_ms)
        self.log += 1
        self.token = token

    def adopt(self, digest: str, now_ms: int, settle_ms: int) -> None:
        """Put the rules of a digest in force; "" names the defaults. Takes a log number of its own.

        Replay then decides by the same rules. `now_ms` is the server time of the first event that
        is decided by them, `settle_ms` what they say of it.
        """
        self.settle_ms = settle_ms
        self.tick(now_ms)
        self.log += 1
        self.rules = digest


def _owner_of_dependency(dependency: record.DependencyRecord) -> str:
    """Name the agent that an output is there for: it made it, is to make it, or waits for it."""
    if dependency.resolved_by:
        return dependency.resolved_by
    return next(iter(dependency.producers or dependency.waiters), "")
