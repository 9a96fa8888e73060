"""Numbers in fields that anyone can write to: parsed or refused in bounded time."""

import pytest

from fabric.config.settings import PARTITIONS_MAX
from fabric.doctor.content import NAMESPACE_KINDS, SESSION_KINDS
from fabric.errors import TamperedError
from fabric.store.keys import Namespace
from fabric.store.value import NUMBER_LIMIT, whole_number
from fabric.testing.store import MemoryStore


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"%d" % (NUMBER_LIMIT - 1), NUMBER_LIMIT - 1),
        (b"%d" % NUMBER_LIMIT, None),
        (b"9" * 5_000, None),
        *((value, None) for value in (None, b"", b"-1", b"+1", b" 1", b"1_0", b"1.0", b"\xb2")),
    ],
)
def test_whole_numbers(value: bytes | None, number: int | None) -> None:
    assert whole_number(value) == number


@pytest.mark.parametrize("value", [b"0", b"%d" % (PARTITIONS_MAX + 1), b"9" * 5_000, b"x"])
async def test_more_partitions_than_any_program_could_examine(value: bytes) -> None:
    """A program that reads a whole namespace would never end."""
    store = MemoryStore(lambda: 1)
    meta = Namespace().meta
    store.data.hash(meta)[b"partitions"] = value
    with pytest.raises(TamperedError, match=meta):
        await store.partitions(1)
    check = NAMESPACE_KINDS[Namespace("").meta].check
    assert check is not None
    with pytest.raises(ValueError, match="partitions"):
        check(b"partitions", value)


@pytest.mark.parametrize("value", [b"9" * 5_000, b"%d" % NUMBER_LIMIT])
def test_the_doctor_reports_a_number_that_the_workers_refuse(value: bytes) -> None:
    check = SESSION_KINDS[":meta"].check
    assert check is not None
    with pytest.raises(ValueError, match="number"):
        check(b"log", value)
