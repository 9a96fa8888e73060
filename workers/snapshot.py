"""The official document of a session as of one revision, read without holding anything up.

One request reads it whole: what is asked for page by page while results come in would be of no
revision. Before that, page by page, it is found out whether the document may be read at once.
"""

from __future__ import annotations

from typing import IO, Final

import msgspec

from fabric.core.synthesis.publish import COMPLETE, REVISION
from fabric.core.synthesis.state import SECTIONS
from fabric.store.keys import SessionKeys
from fabric.store.port import WorkerStore
from fabric.store.synthesis import HEAD, is_published

#: Parts of a document that is read at once. So many take the server some 10 ms, in which it does
#: nothing else; and no model reads as much.
PARTS_MAX: Final = 20_000

#: Bytes of the parts of such a document.
PARTS_BYTES_MAX: Final = 16_777_216

#: Parts asked for in one request while they are counted: each may be as large as a payload.
PAGE_PARTS = 100

_encode = msgspec.json.Encoder().encode


class ExcessError(Exception):
    """A document is too large to be read at once."""


async def read(store: WorkerStore, keys: SessionKeys) -> dict[str, bytes]:
    """Return all fields of a synthesis, as of one revision; empty when there is none.

    Raises ExcessError, ServerError.
    """
    await _measure(store, keys)
    (found,) = await store.hashes([keys.synthesis])
    return {name.decode(): value for name, value in found.items()}


async def _measure(store: WorkerStore, keys: SessionKeys) -> None:
    """Find out whether a synthesis is small enough. Who has spoken of which parts is indexed."""
    (agents,) = await store.hashes([keys.agents])
    seen: set[str] = set()
    size = 0
    for agent in agents:
        said, after = keys.said(agent.decode()), ""
        while names := await store.members(said, "", after, PAGE_PARTS):
            after = names[-1]
            news = [name for name in names if name not in seen]
            seen.update(news)
            if news:
                values = await store.fields(keys.synthesis, news)
                size += sum(len(value or b"") for value in values)
            if len(seen) > PARTS_MAX or size > PARTS_BYTES_MAX:
                raise ExcessError(f"more than {PARTS_MAX} parts or {PARTS_BYTES_MAX} bytes")


def write(file: IO[bytes], session: str, fields: dict[str, bytes]) -> None:
    """Write the document that the fields of a synthesis make up, as JSON.

    Raises MsgspecError when a field is not what the fabric writes.
    """
    sections: dict[str, list[bytes]] = {section: [] for section in SECTIONS}
    for field in sorted(fields.keys() - set(HEAD)):
        if is_published(field, fields[field]):
            section, _, name = field.partition(":")
            sections[section].append(_encode(name) + b":" + fields[field])
    head = b'{"session":%s,"revision":%s,"complete":%s'
    file.write(head % (_encode(session), fields[REVISION], fields[COMPLETE]))
    for section, members in sections.items():
        file.write(b',"%s":{%s}' % (section.encode(), b",".join(members)))
    file.write(b"}")
