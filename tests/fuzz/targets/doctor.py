"""The doctor's checks of keys: they never fail, and find everything that the workers refuse."""

from __future__ import annotations

import msgspec

from fabric.doctor.content import NAMESPACE_KINDS, PARTITION_KINDS, SESSION_KINDS, known
from fabric.errors import TamperedError
from fabric.store import state
from fabric.store.keys import Namespace
from tests.fuzz.entry_bytes import entries, flattened, hashed, packed
from tests.fuzz.targets import ingress, synthesis, worker
from tests.fuzz.targets.worker import KEYS
from tests.fuzz.tokens import FRAME, HOSTILE

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    *(*FRAME, *worker.WORDS, *(kind.encode() for kind in (*PARTITION_KINDS, *SESSION_KINDS))),
    *(b"epoch", b"seeded:orchestrators:0", b"schema", b"partitions", b"{0}", *HOSTILE),
]

#: What `doctor/content.py` takes for a verdict.
_VERDICTS = (ValueError, OverflowError, msgspec.MsgspecError, RecursionError)

_HASHES = state.hashes(KEYS)


def seeds() -> list[bytes]:
    """Return sessions and syntheses as the fabric writes them, one entry a key."""
    found = []
    for data in ingress.seeds():
        work = worker.Work(data[0])
        for flat in entries(data[1:]):
            work.send(flat)
        stored = [work.store.data.hash(key) for key in _HASHES]
        found.append(packed([[b"s", b"", *flattened(fields)] for fields in stored]))
    heads = [data.split(b"\x1e")[0] for data in synthesis.seeds()]
    other = packed(
        [["x:{0}:s:lock:a", "", "holder", "A", "token", "1"], ["x:meta", "", "schema", "1"]]
    )
    return list(
        dict.fromkeys([*found, *(b"x:{0}:s:synthesis\x1f\x1f" + head for head in heads), other])
    )


def run(data: bytes) -> None:
    """Check entries as the hashes of a session; then each as the key that its first field names."""
    flats = entries(data)
    stored = [hashed(flat[2:]) for flat in flats[: len(_HASHES)]]
    stored += [{} for _ in _HASHES[len(stored) :]]
    verdicts = [
        _judged(SESSION_KINDS[key.removeprefix(KEYS.prefix)].check, fields)
        for key, fields in zip(_HASHES, stored, strict=True)
    ]
    try:
        state.restore(KEYS, stored)
    except TamperedError as error:
        if error.found.startswith("none"):  # `meta` is gone: the doctor judges what is there
            assert not stored[0]
            return
        assert not verdicts[_HASHES.index(error.key)], f"the doctor finds nothing wrong: {error}"
    for flat in flats:
        found = known(Namespace("x"), flat[0].decode("utf-8", "replace"))
        kinds = [found.kind] if found is not None else NAMESPACE_KINDS.values()
        for kind in kinds:
            _judged(kind.check, hashed(flat[2:]))


def _judged(judge: object, fields: dict[bytes, bytes]) -> bool:
    """Return whether a check accepts all fields."""
    for field, value in fields.items():
        try:
            field.decode()
            if callable(judge):
                judge(field, value)
        except _VERDICTS:
            return False
    return True
