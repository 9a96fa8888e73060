"""Revisions as JSON Patches (RFC 6902), and the document that they patch."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fabric.core.synthesis.partial import escape
from fabric.core.synthesis.publish import Operation
from fabric.core.synthesis.state import SECTIONS

_encode = msgspec.json.Encoder().encode


def patch(session: str, number: int, complete: bytes, operations: Sequence[Operation]) -> bytes:
    """Return the patch that makes a revision of the one before; the first one, of `{}`.

    A member is added whether it is new or not: to add one that is there replaces it (RFC 6902,
    section 4.1).
    """
    items: list[bytes] = []
    if number == 1:
        sections = b",".join(b'"%s":{}' % section.encode() for section in SECTIONS)
        whole = b'{"session":%s,"revision":1,"complete":%s,%s}'
        items.append(_add(b'""', whole % (_encode(session), complete, sections)))
    else:
        items.append(_add(b'"/revision"', b"%d" % number))
        items.append(_add(b'"/complete"', complete))
    for operation in operations:
        path = _encode(f"/{operation.section}/{escape(operation.name)}")
        if operation.record is None:
            items.append(b'{"op":"remove","path":%s}' % path)
        else:
            items.append(_add(path, operation.record))
    return b"[%s]" % b",\n".join(items)


def _add(path: bytes, value: bytes) -> bytes:
    return b'{"op":"add","path":%s,"value":%s}' % (path, value)
