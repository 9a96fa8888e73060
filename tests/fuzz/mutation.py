"""Good inputs gone wrong: pieces cut out, doubled, moved, and tokens put in that break parsers."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.target import INPUT_BYTES_MAX, Target
from tests.fuzz.word import LONG, NASTY

#: Changes made to one input.
CHANGES_MAX = 6


@st.composite
def mutated(draw: st.DrawFn, target: Target) -> bytes:
    """Any of a target's seeds, or of its words in a row, with changes; or any bytes."""
    words = st.sampled_from([*target.words, *NASTY, *LONG])
    data = draw(
        st.sampled_from([*target.seeds()])
        | st.lists(words, max_size=12).map(b"".join)
        | st.binary(max_size=200)
    )
    for _ in range(draw(st.integers(0, CHANGES_MAX))):
        start, end = sorted(draw(st.tuples(*2 * [st.integers(0, len(data))])))
        end = draw(st.sampled_from([start, end, min(start + 1, len(data))]))
        piece = draw(words | st.just(data[start:end] * 2) | st.binary(max_size=3) | st.just(b""))
        data = data[:start] + piece + data[end:]
    return data[:INPUT_BYTES_MAX]
