"""Mutate good inputs: cut, double and move pieces, and insert tokens that break parsers."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.target import INPUT_BYTES_MAX, Target
from tests.fuzz.tokens import HOSTILE, HOSTILE_LONG

#: Changes made to one input.
CHANGES_MAX = 6


@st.composite
def mutated(draw: st.DrawFn, target: Target) -> bytes:
    """Draw one of a target's seeds, a row of its words, or any bytes; then change it."""
    words = st.sampled_from([*target.words, *HOSTILE, *HOSTILE_LONG])
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
