"""What commands need to show a session's log."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from fabric.backoff import retry
from fabric.client.session import PAGE
from fabric.store.keys import SessionKeys
from fabric.store.port import ClientStore, Entry
from fabric.wire.stored import text_fields_of


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
