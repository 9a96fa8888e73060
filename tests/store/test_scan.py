"""Reading a hash of any size in pages, on every store."""

from contextlib import suppress

import pytest

from fabric.errors import ServerError, TamperedError, UnreachableError
from fabric.store.keys import Namespace
from tests.store.backend import Backend, RedisBackend

KEY = Namespace().partition(0).session("s").synthesis

#: Fields of a large hash, and the size of a page.
FIELDS, PAGE = 700, 50


async def fill(backend: Backend, names: range, value: bytes = b"0") -> None:
    for number in names:
        # Too long for the compact form of a hash, which comes in one page.
        await backend.set_field(KEY, f"f{number}", value * 100)


async def test_a_hash_comes_completely_in_pages(backend: Backend) -> None:
    await fill(backend, range(FIELDS))
    pages = [page async for page in backend.open().scan(KEY, PAGE)]
    found = {name: value for page in pages for name, value in page.items()}
    assert found == {b"f%d" % number: b"0" * 100 for number in range(FIELDS)}
    assert len(pages) > 2
    assert max(map(len, pages)) < 4 * PAGE


async def test_fields_that_exist_throughout_come_whatever_else_changes(backend: Backend) -> None:
    await fill(backend, range(FIELDS))
    store, found, number = backend.open(), dict[bytes, bytes](), FIELDS
    async for page in store.scan(KEY, PAGE):
        found |= page
        # The hash grows until the server has to rehash it while it is read.
        if number < 3 * FIELDS:
            await fill(backend, range(number, number + 100))
            number += 100
    assert {b"f%d" % number for number in range(FIELDS)} <= found.keys()


async def test_a_missing_hash_is_empty(backend: Backend) -> None:
    assert [page async for page in backend.open().scan(KEY, PAGE)] == [{}]


async def test_an_error_names_the_key_that_is_scanned(backend: Backend) -> None:
    await backend.put(KEY, "stream")
    with pytest.raises(TamperedError, match="synthesis is a stream"):
        [page async for page in backend.open().scan(KEY, PAGE)]


async def test_a_scan_ends_when_its_connection_breaks(real: RedisBackend) -> None:
    """Another connection may lead to another server, where the cursor means something else."""
    await fill(real, range(FIELDS))
    store = real.open()
    assert await store.fields(KEY, ["f1"]) == [b"0" * 100]
    scanning = store.scan(KEY, PAGE)
    await anext(scanning)
    await real.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with suppress(UnreachableError):  # unless we have seen already that it is closed
        await store.fields(KEY, ["f1"])
    # The store has connected again, but does not continue the scan.
    assert await store.fields(KEY, ["f1"]) == [b"0" * 100]
    with pytest.raises(ServerError):
        await anext(scanning)
