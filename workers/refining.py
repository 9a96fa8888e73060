"""What a refiner is given: what holds, what has changed since its last run, group by group.

A refiner is a function of the document, or an object (a module, a class) with the hooks `map`,
`reduce` and `group`. What `map` makes of a group is kept by the digest of what it was given, so a
model is asked once about what does not change. The memory is a file that lasts as long as the
worker; lines that were not finished when a run was killed are left out.

Imported by the process of a run only (`refiner.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

from fabric.wire.effective import effective

#: Calls of an asynchronous `map` at a time: services limit them.
MAPS_AT_ONCE: Final = 4

#: Bytes of a memory that is read again; above that the next run begins anew.
MEMORY_BYTES_MAX: Final = 64 * 2**20

Json = dict[str, Any]


class Memory:
    """What is left of the last run: its revision, digests of findings, and what groups became."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.last: Json = {}
        self.mapped: dict[str, Any] = {}
        self._used: dict[str, Any] = {}
        self._read()

    def _read(self) -> None:
        if self._path is None or not self._path.exists():
            return
        with self._open() as file:
            file.seek(0)
            lines = file.read(MEMORY_BYTES_MAX + 1)
        for line in lines.splitlines() if len(lines) <= MEMORY_BYTES_MAX else ():
            try:
                known = json.loads(line)
            except ValueError:  # a run was killed while it wrote
                continue
            if "last" in known:
                self.last = known["last"]
            else:
                self.mapped[known["digest"]] = known["value"]

    def _open(self) -> IO[bytes]:
        assert self._path is not None
        return self._path.open("a+b")

    def keep(self, digest: str, value: Any) -> None:
        """Keep what a group has become, at once: the run may be killed before its end."""
        is_new = digest not in self.mapped
        self.mapped[digest] = self._used[digest] = value
        if is_new and self._path is not None:
            with self._open() as file:
                file.write(_line({"digest": digest, "value": value}))

    def finish(self, last: Json) -> None:
        """Forget all groups but those of this run, which has come to its end."""
        if self._path is None:
            return
        lines = [_line({"digest": digest, "value": one}) for digest, one in self._used.items()]
        with self._open() as file:
            file.truncate(0)
            file.write(_line({"last": last}) + b"".join(lines))


def refine(hooks: Any, official: Json, path: Path | None = None) -> Any:
    """Return what a refiner makes of an official document; `path` is where its memory is."""
    memory = Memory(path)
    document = effective(official)
    digests = {key: digest_of(one) for key, one in document["findings"].items()}
    document["changed"] = _changed(memory.last, digests, document)
    hooks = hooks() if inspect.isclass(hooks) else hooks
    if callable(getattr(hooks, "map", None)):
        value = asyncio.run(_by_group(hooks, document, memory))
    else:
        value = _result(hooks(document))
    places = digest_of(document["document"])
    memory.finish({"revision": document["revision"], "findings": digests, "document": places})
    return value


def _changed(last: Json, digests: Mapping[str, str], document: Json) -> Json:
    """Say what has changed since the last run; all of it is new if there was none."""
    known: Json = last.get("findings", {})
    return {
        "since": last.get("revision", 0),
        "findings": [key for key, digest in digests.items() if known.get(key) != digest],
        "gone": [key for key in known if key not in digests],
        "document": last.get("document") != digest_of(document["document"]),
    }


async def _by_group(hooks: Any, document: Json, memory: Memory) -> Any:
    """Map each group, unless it was mapped as it is; then reduce what became of all of them."""
    group_of: Callable[[Json], Any] = getattr(hooks, "group", _file_of)
    groups: dict[str, Json] = {}
    for key, one in document["findings"].items():
        groups.setdefault(str(group_of({"key": key, **one})), {})[key] = one
    turns = asyncio.Semaphore(MAPS_AT_ONCE)

    async def mapped(name: str) -> Any:
        given = {"name": name, "findings": groups[name]}
        digest = digest_of(given)
        if digest not in memory.mapped:
            async with turns:
                made = await _awaited(hooks.map(given))
            memory.keep(digest, made)
        else:
            memory.keep(digest, memory.mapped[digest])
        return memory.mapped[digest]

    async with asyncio.TaskGroup() as tasks:
        made = {name: tasks.create_task(mapped(name)) for name in sorted(groups)}
    results = {name: task.result() for name, task in made.items()}
    reduce = getattr(hooks, "reduce", None)
    return await _awaited(reduce(results, document)) if callable(reduce) else results


def _file_of(finding: Json) -> str:
    return str(finding.get("path", ""))


def _result(value: Any) -> Any:
    return asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def digest_of(value: Any) -> str:
    """Return the digest of a JSON value, whatever the order of its members."""
    return hashlib.sha256(_line(value)).hexdigest()


def _line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode() + b"\n"
