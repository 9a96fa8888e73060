"""What people and scripts do to a session's task board: add tasks, complete them, retry them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import MsgspecError

from fabric.client.emitter import Emitter, prepare
from fabric.client.sent_signal import SentSignal, confirm
from fabric.client.session import Session, pages
from fabric.core.limits import (
    LIST_ITEMS_MAX,
    PAYLOAD_BYTES_MAX,
    SIGNAL_STEPS_MAX,
    SIGNAL_TASKS_MAX,
)
from fabric.core.record import AgentRecord
from fabric.core.rules import Rules
from fabric.core.signal import SignalType
from fabric.core.task import TaskRecord, TaskSpec, TaskStatus, fault, in_order, prerequisites
from fabric.errors import CallerError, NotAllowedError, WaitTimeoutError
from fabric.store.keys import Partition, SessionKeys
from fabric.store.port import BEGINNING, ClientStore
from fabric.wire.record import RULES_KIND, read_rules, rules_digest, rules_document
from fabric.wire.stored import fields_of

#: Bytes of the tasks of one signal: half of a payload, because names may be escaped in it.
_BYTES_MAX = PAYLOAD_BYTES_MAX // 2


#: Offers that one `begin_next` tries to take, if others are quicker each time.
NEXT_TRIES_MAX = 10


class Board:
    """Changes a session's board as `by`: an agent, or the name of a person.

    Every method returns when the orchestrator has accepted it. They raise NotAllowedError with the
    reason if it refuses, and WaitTimeoutError after `timeout_s` if none has decided it.
    """

    def __init__(
        self,
        session: Session,
        store: ClientStore,
        partition: Partition,
        emitter: Emitter,
        *,
        by: str,
        timeout_s: float,
        stream: str | None = None,
    ) -> None:
        self.session = session
        self._store = store
        self._partition = partition
        self._emitter = emitter
        self.by = by
        self._timeout_s = timeout_s
        self._defaults = {"session": session.name, "emitter": by, "stream": stream}

    async def add(self, tasks: Sequence[TaskSpec]) -> None:
        """Put tasks onto the board, in several signals if they are many.

        Raises CallerError for a list that makes no sense. If a later signal is refused, what the
        earlier ones have added stays: the error says how many.
        """
        known = await self.session.tasks()
        found = fault(tasks, known)
        if found is not None:
            raise CallerError(found.reason)
        added = 0
        for part in batches(tasks):
            try:
                await self.send(SignalType.TASKS_ADDED, {"tasks": part})
            except NotAllowedError as error:
                kept = f"; {added} of {len(tasks)} were added before" if added else ""
                raise NotAllowedError(f"{error}{kept}") from None
            added += len(part)

    async def done(self, task: str) -> None:
        """Say that a task is complete."""
        await self.send(SignalType.TASK_DONE, {"task": task})

    async def retry(self, task: str) -> None:
        """Have a completed or failed task done again."""
        await self.send(SignalType.TASK_RETRY, {"task": task})

    async def begin_next(self) -> tuple[str, TaskRecord]:
        """Ask for a task as the agent `by`, and begin it; return its id and its record.

        Raises WaitTimeoutError if there is none for it now.
        """
        keys = self.session.keys
        for _ in range(NEXT_TRIES_MAX):
            await self.send(SignalType.EARLY_COMPLETION, {"capacity": 1})
            (stored,) = await self._store.fields(keys.agents, [self.by])
            agent = msgspec.json.decode(stored, type=AgentRecord) if stored else None
            for task in agent.offers if agent is not None else []:
                record = (await self._task(task)) or TaskRecord(task, TaskStatus.PENDING)
                named = {"reads": record.reads, "writes": record.writes, "task_type": record.type}
                declared = {name: value for name, value in named.items() if value}
                try:
                    await self.send(SignalType.STARTED, {"task": task, **declared})
                except NotAllowedError:
                    continue  # something has come before it: ask for the next one
                return task, (await self._task(task)) or record
            if agent is None or not agent.offers:
                break
        await self.send(SignalType.EARLY_COMPLETION, {"capacity": 0})
        raise WaitTimeoutError(
            f"no task is ready for {self.by} that nothing is in the way of (fabric tasks list)"
        )

    async def _task(self, name: str) -> TaskRecord | None:
        (stored,) = await self._store.fields(self.session.keys.tasks, [name])
        return msgspec.json.decode(stored, type=TaskRecord) if stored else None

    async def send(self, kind: SignalType, payload: dict[str, Any]) -> None:
        """Send a signal as `by`, and return when it is accepted."""
        keys = self.session.keys
        document = {"type": kind.value, "payload": payload}
        entry = prepare(document, self._defaults)
        sent = SentSignal(self._store, self._partition, self._emitter, keys.log)
        became = await confirm(sent, keys, entry, timeout_s=self._timeout_s)
        if became.refusal is not None:
            raise NotAllowedError(str(became.refusal))


async def rules_of(
    store: ClientStore, keys: SessionKeys, digest: str, local: Rules
) -> Rules | None:
    """Return the rules that a session names by their digest: ours, or those that its log states.

    None: its log does not have them any more.
    """
    for known in (local, Rules()):
        if rules_digest(rules_document(known)) == digest:
            return known
    async for page in pages(store, keys, BEGINNING):
        for _, flat in page:
            fields = fields_of(flat)
            document = fields.get(b"payload", b"")
            if fields.get(b"kind") == RULES_KIND.encode() and rules_digest(document) == digest:
                with suppress(MsgspecError, ValueError, RecursionError):
                    return read_rules(document)
    return None


def batches(tasks: Sequence[TaskSpec]) -> Iterator[list[TaskSpec]]:
    """Cut a list into parts that fit a signal each, so that every part names only earlier tasks.

    Raises CallerError if one task waits for more than a signal can name.
    """
    before, own = prerequisites(tasks), {task.id for task in tasks}
    part: list[TaskSpec] = []
    steps = size = 0
    for task in in_order(tasks):
        if len(before[task.id]) > LIST_ITEMS_MAX:
            waits = f"{task.id} comes after {len(before[task.id])} tasks"
            raise CallerError(f"{waits}, and may name {LIST_ITEMS_MAX}: put a task between")
        later = [other for other in task.blocks if other not in own]
        one = msgspec.structs.replace(task, can_merge_after=before[task.id], blocks=later)
        more, bytes_ = len(before[task.id]) + len(later), len(msgspec.json.encode(one))
        is_full = len(part) >= SIGNAL_TASKS_MAX or size + bytes_ > _BYTES_MAX
        if part and (is_full or steps + more > SIGNAL_STEPS_MAX):
            yield part
            part, steps, size = [], 0, 0
        part.append(one)
        steps, size = steps + more, size + bytes_
    if part:
        yield part
