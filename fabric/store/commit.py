"""The arguments of commit.lua: what the script has to check, and the writes of a batch, packed.

Most writes are short: a signal of `resolved` has some 34 values. As arguments they cost both sides
more than anything else in a commit. So they go as one argument, in MessagePack (measured by turns:
worker 5.3 → 2.6 µs a signal, server 14.0 → 12.6; docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from operator import add
from typing import Any, Final

import msgspec

from fabric.store import value
from fabric.store.port import Argument, Batch, Lease
from fabric.wire.record import CopyingForm, Form
from fabric.wire.stored import raw, text

#: Bytes of an average value from which large ones go as arguments of their own: packing copies them
#: once more on each side.
APART_BYTES_MIN: Final = 256

#: Entry forms remembered, as the script reads them: a lone signal states as many as a whole batch.
_FORMS_MAX: Final = 1_000

_pack = msgspec.msgpack.Encoder().encode


def arguments(
    lease: Lease, version: int, batch: Batch, upto: bytes, ttl_ms: int, *, drained: bool
) -> tuple[Any, ...]:
    """Return ARGV of commit.lua, which says what each is."""
    copied = batch.copied
    expected = " ".join(map(add, batch.types, batch.firsts))
    writes: list[Argument] = [len(batch.forms)]
    for form in batch.forms:
        writes += _stated(form)
    writes += batch.operations
    is_large = batch.size_bytes > APART_BYTES_MIN * len(writes)
    return (
        lease.nonce, lease.epoch, version, ttl_ms, lease.group,
        upto, value.successor(upto) if upto else b"", "=" if drained else "~",
        expected, len(copied), b" ".join(copied), *packed(writes, is_large=is_large),
    )  # fmt: skip


def packed(writes: Sequence[Argument], *, is_large: bool = False) -> tuple[str | bytes, ...]:
    """Return writes as MessagePack, then the places (from 1) of values that go apart, then these.

    The servers' reader of MessagePack (cmsgpack) takes text, and no binary values; our writer takes
    only UTF-8 as text. So bytes that are no UTF-8 go apart.
    """
    if not is_large:
        with suppress(UnicodeEncodeError):
            return _pack(writes), ""
    short: list[Argument] = []
    apart: dict[int, bytes] = {}
    for place, one in enumerate(writes, 1):
        if isinstance(one, str) and (len(one) > APART_BYTES_MIN or not one.isascii()):
            apart[place] = raw(one)
            one = ""
        short.append(one)
    return _pack(short), " ".join(map(str, apart)), *apart.values()


@lru_cache(_FORMS_MAX)
def _stated(form: Form) -> tuple[Argument, ...]:
    names = (text(name) if isinstance(name, bytes) else name for name in form)
    return len(form), *names, _places(form)


def _places(form: Form) -> str:
    """Say which values of an entry form are copied; "" for none."""
    return " ".join(map(str, form.places)) if isinstance(form, CopyingForm) else ""
