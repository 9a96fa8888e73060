"""Lines are cut at their ends however they were read; a line that is too long is not kept."""

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.errors import SignalError
from fabric.ops import ndjson
from fabric.ops.ndjson import Line, Lines, batches, document, follow


@given(st.lists(st.binary(max_size=5).map(lambda b: b.replace(b"\n", b"")), max_size=9), st.data())
def test_lines_do_not_depend_on_how_they_were_read(parts: list[bytes], data: st.DataObject) -> None:
    text = b"\n".join(parts)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    chunks = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    lines = Lines()
    found = [line for chunk in chunks for line in lines.cut(chunk)] + lines.finish()
    assert found == [(n, part) for n, part in enumerate(parts, 1) if part.strip()]


@pytest.fixture
def short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "LINE_BYTES_MAX", 4)


@pytest.mark.usefixtures("short_lines")
@pytest.mark.parametrize(
    "chunks", [[b"12345\n1\n"], [b"123", b"45", b"6\n1\n"], [b"1234567", b"\n1"]]
)
def test_a_line_that_is_too_long_is_left_out(chunks: list[bytes]) -> None:
    lines = Lines()
    found = [line for chunk in chunks for line in lines.cut(chunk)] + lines.finish()
    assert found == [(1, None), (2, b"1")]
    with pytest.raises(SignalError, match="line"):
        document(None)


@given(st.lists(st.integers(0, ndjson.BATCH_BYTES_MAX), max_size=20))
def test_a_batch_is_bounded_and_nothing_is_lost(sizes: list[int]) -> None:
    lines: list[Line] = [(n, bytes(size)) for n, size in enumerate(sizes)]
    made = list(batches(lines))
    assert [line for batch in made for line in batch] == lines
    for batch in made:
        assert (
            len(batch) == 1 or sum(len(line or b"") for _, line in batch) <= ndjson.BATCH_BYTES_MAX
        )


def test_a_batch_has_a_bounded_number_of_lines() -> None:
    made = list(batches([(n, b"x") for n in range(600)]))
    assert [len(batch) for batch in made] == [256, 256, 88]


def test_lines_in_the_pipe_are_sent_before_its_end() -> None:
    async def read() -> list[list[Line]]:
        reader, writer = os.pipe()
        found = []
        os.write(writer, b"1\n2")
        async for batch in follow(reader):
            found.append(batch)
            if len(found) == 1:
                os.write(writer, b"\n")
            else:
                os.close(writer)
        os.close(reader)
        return found

    assert asyncio.run(read()) == [[(1, b"1")], [(2, b"2")]]
