"""Reading a hash of any size in pages, on every store."""

import pytest

from fabric.errors import TamperedError, UnreachableError
from fabric.store.keys import Namespace
from tests.store.backend import Backend, RedisBackend

KEY = Namespace().partition(0).session("s").synthesis

#: Fields of a large hash, and how many are asked for at a time.
FIELDS, PAGE = 700, 50


async def fill(backend: Backend, names: range, value: bytes = b"0") -> None:
    for number in names:
        # So long that no server keeps the hash in its small form, which comes in one page.
        await backend.set_field(KEY, f"f{number}", value * 100)


async def test_a_hash_comes_in_pages_and_whole(backend: Backend) -> None:
    await fill(backend, range(FIELDS))
    pages = [page async for page in backend.open().scan(KEY, PAGE)]
    found = {name: value for page in pages for name, value in page.items()}
    assert found == {b"f%d" % number: b"0" * 100 for number in range(FIELDS)}
    assert len(pages) > 2
    assert max(map(len, pages)) < 4 * PAGE


async def test_what_is_there_all_the_time_comes_whatever_else_changes(backend: Backend) -> None:
    await fill(backend, range(FIELDS))
    store, found, number = backend.open(), dict[bytes, bytes](), FIELDS
    async for page in store.scan(KEY, PAGE):
        found |= page
        # The hash grows until the server must lay it out anew, under the reader's hands.
        if number < 3 * FIELDS:
            await fill(backend, range(number, number + 100))
            number += 100
    assert {b"f%d" % number for number in range(FIELDS)} <= found.keys()


async def test_no_hash_is_an_empty_one(backend: Backend) -> None:
    assert [page async for page in backend.open().scan(KEY, PAGE)] == [{}]


async def test_what_is_no_hash_is_named(backend: Backend) -> None:
    await backend.put(KEY, "stream")
    with pytest.raises(TamperedError, match="synthesis is a stream"):
        [page async for page in backend.open().scan(KEY, PAGE)]


async def test_a_scan_does_not_go_on_where_its_connection_has_broken(real: RedisBackend) -> None:
    """Behind another connection may be another server, to which a cursor means something else."""
    await fill(real, range(FIELDS))
    store = real.open()
    assert await store.fields(KEY, ["f1"]) == [b"0" * 100]
    scanning = store.scan(KEY, PAGE)
    await anext(scanning)
    await real.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(UnreachableError):
        await store.fields(KEY, ["f1"])
    # It has dialled again, and does not take the scan along.
    assert await store.fields(KEY, ["f1"]) == [b"0" * 100]
    with pytest.raises(UnreachableError):
        await anext(scanning)
