"""Sending signals given as documents, for callers that are no agent process, as `fabric emit`.

Kept free of the settings and their checks, which take longer to import than a signal to send.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fabric.client.emitter import Emitter, WhenFull
from fabric.store.keys import partition_of
from fabric.store.port import ClientStore
from fabric.wire.entry import decode
from fabric.wire.spelling import canonical, encode


def prepare(document: Mapping[str, Any], defaults: Mapping[str, str | None]) -> list[bytes]:
    """Return a document, in any spelling, as a checked ingress entry. Raises SignalError.

    `defaults` fill in session, emitter and stream where the document leaves them out.
    """
    fields = canonical(document)
    for field, value in defaults.items():
        if not fields.get(field):
            fields[field] = value
    entry = encode(fields)
    decode(entry)
    return entry


async def submit(
    store: ClientStore,
    partitions: int,
    entries: Iterable[list[bytes]],
    *,
    ingress_max: int,
    limit_ms: int,
    when_full: WhenFull = WhenFull.WAIT,
) -> list[str]:
    """Send checked entries; return their ingress ids, in order.

    All entries of a partition go in together or not at all. After a lost reply they are sent again
    when each has a sequence number, by which a repeat is recognised; else UnreachableError is
    raised.
    """
    parts: dict[int, list[tuple[int, list[bytes]]]] = {}
    unnumbered: set[int] = set()
    for number, entry in enumerate(entries):
        signal = decode(entry)
        partition = partition_of(signal.session, partitions)
        parts.setdefault(partition, []).append((number, entry))
        if not signal.seq:
            unnumbered.add(partition)
    ids: dict[int, bytes] = {}
    for partition, numbered in parts.items():
        emitter = Emitter(
            store, partition, ingress_max=ingress_max, when_full=when_full, limit_ms=limit_ms
        )
        sent = await emitter.send(
            [entry for _, entry in numbered], numbered=partition not in unnumbered
        )
        ids |= dict(zip((number for number, _ in numbered), sent, strict=True))
    return [ids[number].decode() for number in sorted(ids)]
