"""A session written to a file of JSON lines: all keys of it, with nothing left out."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import IO, NamedTuple

from fabric.client.session import FIELDS_PAGE, Session
from fabric.errors import NotAllowedError
from fabric.store import file
from fabric.store.keys import Partition, SessionKeys
from fabric.store.port import ClientStore

#: Attempts to write a session that changes meanwhile.
ROUNDS_MAX = 3

#: Entries read at a time; the store takes fewer where they are large.
PAGE = 500

#: Keys of one session: more than any has.
KEYS_MAX = 10_000_000


class Exported(NamedTuple):
    """How many lines were written; whether log, records and synthesis stayed as they are there."""

    lines: int
    is_whole: bool


async def export_session(
    store: ClientStore, partition: Partition, keys: SessionKeys, to: Path | IO[bytes]
) -> Exported:
    """Write a session to a file, compressed if its name ends in `.gz`, or to a stream.

    A file appears under its name when it is complete. It is written again, a few times, if the
    session has changed. A device or a pipe is written to as it is. Raises NotFoundError if there is
    no such session, also if it is deleted meanwhile, and NotAllowedError if `to` cannot be written.
    """
    if not isinstance(to, Path):
        return await _write(store, partition, keys, to)
    try:
        if (target := _file_at(to)) is not None:
            return await _write_file(store, partition, keys, target)
        with file.opened(to, "wb") as output:
            return await _write(store, partition, keys, output)
    except OSError as error:
        raise NotAllowedError(f"{to} cannot be written: {error.strerror or error}") from None


def _file_at(path: Path) -> Path | None:
    """Return the file that a path leads to, or will; None if something else is there."""
    return None if path.exists() and not path.is_file() else path.resolve()


async def _write_file(
    store: ClientStore, partition: Partition, keys: SessionKeys, to: Path
) -> Exported:
    temporary = to.with_name(f".{os.getpid()}.{to.name}")
    try:
        for _ in range(ROUNDS_MAX):
            with file.opened(temporary, "wb") as output:
                exported = await _write(store, partition, keys, output)
            if exported.is_whole:
                break
        # What was deleted meanwhile is half a session at best.
        await Session(store, keys).must_exist()
        temporary.replace(to)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    return exported


async def _write(
    store: ClientStore, partition: Partition, keys: SessionKeys, output: IO[bytes]
) -> Exported:
    await Session(store, keys).must_exist()
    before = await _version(store, keys)
    output.write(file.header(keys, await store.now_ms(keys.log)))
    found = await store.named(partition.number, f"{keys.prefix}:", KEYS_MAX)
    # The log last: it then has all that the other keys show.
    count = 0
    for key in sorted(found, key=lambda key: (key == keys.log, key)):
        async with aclosing(_lines(store, keys, key)) as lines:
            async for line in lines:
                output.write(line)
                count += 1
    is_whole = await _version(store, keys) == before
    output.write(file.last_line(count, is_whole=is_whole))
    return Exported(count, is_whole)


async def _version(store: ClientStore, keys: SessionKeys) -> object:
    """Return what every commit to the log, the records or the synthesis changes."""
    (meta,) = await store.hashes([keys.meta])
    return meta, await store.fields(keys.synthesis, ["revision"])


async def _lines(store: ClientStore, keys: SessionKeys, key: str) -> AsyncGenerator[bytes, None]:
    name = key.removeprefix(f"{keys.prefix}:")
    kind = file.kind_of(name)
    if kind == "hash":
        async with aclosing(store.scan(key, FIELDS_PAGE)) as pages:
            async for page in pages:
                for field, value in page.items():
                    yield file.field_line(name, field, value)
    elif kind == "zset":
        for member, score in await store.scores(key):
            yield file.member_line(name, member, score)
    else:
        after = b"-"
        while page_of := await store.entries(key, after, b"+", PAGE):
            for entry in page_of:
                yield file.entry_line(name, entry)
            after = b"(" + page_of[-1][0]
