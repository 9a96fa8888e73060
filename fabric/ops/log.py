"""Reading a session's log a page at a time, to its present end or for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec

from fabric.backoff import retry
from fabric.client.session import BLOCK_MS, PAGE
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore, Entry
from fabric.wire.stored import text_fields_of


async def pages(
    store: ClientStore, keys: SessionKeys, after: bytes, *, follow: bool = False
) -> AsyncIterator[list[Entry]]:
    """Yield the log entries after an id; with `follow` also those to come, through outages."""
    place = {keys.log: after}
    while True:
        if follow:
            found = await retry(lambda: store.read_streams(place, PAGE, BLOCK_MS))
        else:
            found = await store.read_streams(place, PAGE, 0)
        entries = found.get(keys.log, [])
        if entries:
            place[keys.log] = entries[-1][0]
            yield entries
        elif not follow:
            return


async def is_last(store: ClientStore, keys: SessionKeys, page: list[Entry]) -> bool:
    """Whether the log has nothing after a page, for now."""
    if len(page) < PAGE:
        return True
    place = {keys.log: page[-1][0]}
    return not (await retry(lambda: store.read_streams(place, 1, 0))).get(keys.log)


def document(entry: Entry) -> dict[str, Any]:
    """Return a log entry for `--json`: its id, its fields as text, its payload decoded."""
    entry_id, flat = entry
    fields: dict[str, Any] = {**text_fields_of(flat)}
    payload = fields.get("payload")
    if isinstance(payload, str):
        with suppress(msgspec.MsgspecError, RecursionError):  # not JSON: shown as it is
            fields["payload"] = msgspec.json.decode(payload)
    return {"id": entry_id.decode(), **fields}
