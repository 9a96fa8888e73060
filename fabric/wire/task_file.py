"""Lists of tasks, as people and coding agents write them → the core's tasks.

    TOML   `[[tasks]]` with an `id`, or a table `[tasks.ID]` for each
    JSON   a list of tasks, or an object with the list in `tasks` or `todos`
    TodoWrite                a list, or the call, as it is: content, status, activeForm
    TaskCreate, TaskUpdate   a list of the calls or of their arguments, or of the tasks they made

Fields are those of TaskSpec, also in camelCase; `subject` is `content`, `blockedBy` and
`addBlockedBy` are `can_merge_after`, `addBlocks` is `blocks`, `estimate = "20 min"` is a time, and
`metadata` may hold any of them. Lists of agents may have fields of their own, which are left out;
in a person's file such a field is a slip.

A TodoWrite list has no ids. There a task is called by the words of its content with hyphens, with
or without the first ones: "Run pytest" is `run-pytest`, or `pytest` if others call it that. The
calls of newer agents number their tasks from 1.
"""

from __future__ import annotations

import re
import tomllib
from codecs import BOM_UTF8
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from fabric.core.limits import NAME_CHARS_MAX, SESSION_TASKS_MAX
from fabric.core.task import TaskSpec, fault
from fabric.errors import TaskFileError
from fabric.wire.stored import shortened

T = TypeVar("T")
Record = dict[str, Any]

#: Bytes of a file: as many tasks as a session may hold, with a kilobyte each.
FILE_BYTES_MAX = 1024 * SESSION_TASKS_MAX

#: Characters of a wrong value that a message repeats.
SHOWN_CHARS_MAX = 60

#: Other names of fields, in snake_case.
_ALIASES = {
    "subject": "content",
    "task_id": "id",
    "task_type": "type",
    "blocked_by": "can_merge_after",
    "add_blocked_by": "can_merge_after",
    "add_blocks": "blocks",
}
_FIELDS = frozenset(TaskSpec.__struct_fields__)
#: Fields that a later call adds to.
_ADDED = ("can_merge_after", "blocks")
#: Only agents write these; other fields of such a task are the agent's business.
_AGENTS_OWN = frozenset({"activeForm", "subject", "taskId"})
#: Statuses of tasks that nobody does any more. OpenCode's lists say `cancelled`.
_DELETED = ("deleted", "cancelled", "canceled")
#: Priorities of older todo lists.
_PRIORITIES = {"high": 10, "medium": 0, "low": -10}

#: Parts of one TOML key. The parser's time grows with their square, and no task needs three.
KEY_PARTS_MAX = 16
_PART = r"""(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[\w-]++)"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_PART}[ \t]*+\.[ \t]*+){{{KEY_PARTS_MAX}}}")

_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|min|h|d)")
_UNITS_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse(data: bytes, name: str) -> list[TaskSpec]:
    """Return the tasks of a file: TOML if its name ends so, else JSON.

    Raises TaskFileError, which names the file, and the task and field if it is one.
    """
    try:
        if len(data) > FILE_BYTES_MAX:
            raise TaskFileError(f"more than {FILE_BYTES_MAX} bytes")
        data = data.removeprefix(BOM_UTF8)  # as editors on Windows write it
        return tasks_of(_toml(data) if name.lower().endswith(".toml") else _json(data))
    except TaskFileError as error:
        raise TaskFileError(f"{name}: {error}") from None


def tasks_of(document: object) -> list[TaskSpec]:
    """Return the tasks of a decoded document. Raises TaskFileError."""
    made: dict[str, Record] = {}
    for number, record in enumerate(_records(document), start=1):
        if not isinstance(record, dict):
            raise TaskFileError(f"task {number} is no object with fields")
        tool, call = record.get("name"), record.get("input")
        _take(made, call if tool is not None and isinstance(call, dict) else record, number)
    records = list(made.values())
    _name(records)
    if len(records) > SESSION_TASKS_MAX:
        raise TaskFileError(f"{len(records)} tasks; a session has {SESSION_TASKS_MAX} at most")
    tasks = [_converted(record) for record in records]
    found = fault(tasks)
    if found is not None:
        raise TaskFileError(found.reason)
    return tasks


def _json(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TaskFileError(f"no JSON: {error} (a TOML file's name ends in .toml)") from None


def _toml(data: bytes) -> object:
    try:
        text = data.decode()
        if _LONG_KEY.search(text):
            raise TaskFileError(f"over {KEY_PARTS_MAX} words joined by dots: no key is that long")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskFileError(f"no TOML: {error}") from None


def _records(document: object) -> list[object]:
    """Return the tasks of a document, or the calls that made them."""
    if isinstance(document, list):
        # Each TodoWrite call has the whole list: the last one holds.
        calls = [one for one in document if isinstance(one, dict) and "name" in one]
        lists = [call for call in calls if _todos(call.get("input")) is not None]
        return _records(lists[-1]) if lists else document
    if not isinstance(document, dict):
        raise TaskFileError("neither a list of tasks nor an object with `tasks` or `todos`")
    inner = document.get("input") if "name" in document else document
    if not isinstance(inner, dict):
        inner = document
    listed = _todos(inner)
    if listed is not None:
        return listed
    if {"id", "content", *_AGENTS_OWN}.isdisjoint(inner):
        raise TaskFileError("an object without `tasks` or `todos`")
    return [document]


def _todos(inner: object) -> list[object] | None:
    """Return the list that an object has in `tasks` or `todos`; None if it has neither."""
    if not isinstance(inner, dict):
        return None
    for key in ("tasks", "todos"):
        listed = inner.get(key)
        if isinstance(listed, list):
            return listed
        if isinstance(listed, dict):
            return [
                {"id": id_, **one} if isinstance(one, dict) else one for id_, one in listed.items()
            ]
    return None


def _take(made: dict[str, Record], record: Mapping[str, Any], number: int) -> None:
    """Add the task of a record, or change the one that it updates."""
    fields = _fields(record, f"task {record.get('id', number)}")
    if "taskId" not in record:
        if "subject" in record:
            fields.setdefault("id", _next_number(made))
        # A double id is found with the others; until then both are kept.
        id_ = fields.get("id", "")
        made[id_ if id_ and id_ not in made else f"\0{number}"] = fields
        return
    id_ = fields.pop("id", "")
    known = made.get(id_)
    if known is None:
        raise TaskFileError(f"task {number} updates {id_}, which no task before it has as its id")
    for field in _ADDED:
        if field in fields and field in known:
            fields[field] = [*known[field], *fields[field]]
    known |= fields


def _next_number(made: Mapping[str, Record]) -> str:
    """Return the id that a TaskCreate gives: one more than the highest so far."""
    numbers = (int(id_) for id_ in made if id_.isascii() and id_.isdigit() and len(id_) < 10)
    return str(max([len(made), *numbers]) + 1)


def _fields(record: Mapping[str, Any], where: str) -> Record:
    """Return the fields of a task by their own names, without those that are null."""
    is_agents = not _AGENTS_OWN.isdisjoint(record)
    metadata = record.get("metadata")
    pairs = list(metadata.items()) if isinstance(metadata, dict) else []
    found: Record = {}
    for at, (key, value) in enumerate([*pairs, *record.items()]):
        field = _field(key)
        if field in _ADDED and value is not None:
            found[field] = [*found.get(field, ()), *_ids(value, f"{where}: {key}")]
        elif field in _FIELDS or field == "estimate":
            found[field] = value
        elif at >= len(pairs) and key != "metadata" and not is_agents:
            near = get_close_matches(field, _FIELDS, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise TaskFileError(f"{where}: {key} is no field of a task{hint}")
    found = {field: value for field, value in found.items() if value is not None}
    if "estimate" in found:
        found["estimate_ms"] = _milliseconds(found.pop("estimate"), where)
    if isinstance(found.get("priority"), str):
        found["priority"] = _PRIORITIES.get(found["priority"], found["priority"])
    if "id" in found:
        (found["id"],) = _ids([found["id"]], f"{where}: id")
    elif not {"content", "taskId"} & {*found, *record}:
        raise TaskFileError(f"{where} has neither an id nor a content")
    return found


def _ids(value: object, where: str) -> list[str]:
    """Return a list of ids; agents that number their tasks may write numbers."""
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int) and not isinstance(one, bool) for one in listed):
        raise TaskFileError(f"{where}: {shortened(str(value), SHOWN_CHARS_MAX)} is no id")
    return list(map(str, listed))


def _field(key: str) -> str:
    snake = re.sub(r"(?<=[a-z])[A-Z]", lambda found: f"_{found[0]}", key).lower()
    return _ALIASES.get(snake, snake)


def _milliseconds(value: object, where: str) -> int:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise TaskFileError(f'{where}: estimate is a time such as "90 s", "20 min" or "2 h"')
    return round(float(found[1]) * _UNITS_MS[found[2]])


def _name(records: list[Record]) -> None:
    """Take out what was deleted, and give an id to each task without one; see above."""
    deleted = {record.get("id") for record in records if record.get("status") in _DELETED}
    records[:] = [record for record in records if record.get("status") not in _DELETED]
    for record in records:
        for field in _ADDED if deleted else ():
            record[field] = [one for one in record.get(field, ()) if one not in deleted]
    unnamed = {number: record for number, record in enumerate(records, 1) if "id" not in record}
    if not unnamed:
        return
    words = {number: _slug(str(one.get("content", "")), number) for number, one in unnamed.items()}
    taken = {record.get("id") for record in records} | set(words.values())
    #: Name that others call a task by → the number of the task.
    called: dict[str, int] = {}
    named = (name for one in records for field in _ADDED for name in one.get(field, ()))
    for name in named:
        if name not in taken and name not in called:
            ending = f"-{_slug(name, 0)}"
            found = [number for number, slug in words.items() if slug.endswith(ending)]
            if len(found) > 1:
                either = " or ".join(words[number] for number in found)
                raise TaskFileError(f"{name} may be {either}: give the tasks ids")
            called |= dict.fromkeys([name], found[0]) if found else {}
    ids = words | {number: name for name, number in reversed(called.items())}
    same = {slug: ids[number] for number, slug in words.items()}
    same |= {name: ids[number] for name, number in called.items()}
    for number, record in unnamed.items():
        record["id"] = ids[number]
    for record in records:
        for field in _ADDED:
            if field in record:
                record[field] = [same.get(one, one) for one in record[field]]


def _slug(text: str, number: int) -> str:
    words = re.sub(r"[\W_]+", "-", text.lower()).strip("-")
    return words[:NAME_CHARS_MAX].strip("-") or f"task-{number}"


def _converted(record: Record) -> TaskSpec:
    try:
        return msgspec.convert(record, TaskSpec)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        field = f" {where.rstrip('`')}:" if where else ""
        raise TaskFileError(f"task {record['id']}:{field} {what[:1].lower()}{what[1:]}") from None
