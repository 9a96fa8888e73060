"""For all resources: the answers are those of an oracle that tries all small cases."""

import re
from functools import cache
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from fabric.core.resource import Index, overlap
from fabric.core.resource_name import normalise
from tests.support.effort import examples

# The oracle: two globs overlap when some path matches both; it tries all small paths. A smallest
# common match has no more elements than the two have items other than stars.

CHARACTERS = ["a", "b", "*", "*", "?", "[a-b]", "[!a]", "[^ab]", "[b-c]"]
WORDS = ["".join(word) for size in range(5) for word in product("abc", repeat=size)]

PARTS = ["a", "b", "ab", "*", "?", "a*", "*b", "[a-b]", "[!a]", "**"]
PATHS = [
    root + path
    for size in range(1, 5)
    for path in product(["a", "b", "aa", "ab", "bb"], repeat=size)
    for root in ((), ("",))
]


@cache
def part_expression(glob: str) -> re.Pattern[str]:
    text = glob.replace("[!", "[^").replace("*", ".*").replace("?", ".")
    return re.compile(text)


def matches(glob: tuple[str, ...], path: tuple[str, ...]) -> bool:
    if not glob:
        return not path
    if glob[0] == "**":
        return matches(glob[1:], path) or (bool(path) and matches(glob, path[1:]))
    if not path or (glob[0] == "") != (path[0] == ""):
        return False
    if part_expression(glob[0]).fullmatch(path[0]) is None:
        return False
    return matches(glob[1:], path[1:])


@cache
def words_of(glob: str) -> frozenset[str]:
    return frozenset(word for word in WORDS if word and part_expression(glob).fullmatch(word))


@cache
def paths_of(glob: str) -> frozenset[tuple[str, ...]]:
    parts = tuple(glob.split("/"))
    return frozenset(path for path in PATHS if matches(parts, path))


part_globs = st.lists(st.sampled_from(CHARACTERS), min_size=1, max_size=3).map("".join)
path_globs = st.builds(
    lambda root, parts: normalise(root + "/".join(parts)),
    st.sampled_from(["", "", "", "/"]),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3),
)


@examples(1_000)
@given(part_globs, part_globs)
def test_two_parts_overlap_when_a_word_matches_both(a: str, b: str) -> None:
    if "**" in (a, b):  # as a whole part it is another thing
        return
    assert overlap(a, b) == bool(words_of(a) & words_of(b))


@examples(600)
@given(path_globs, path_globs)
def test_two_globs_overlap_when_a_path_matches_both(a: str, b: str) -> None:
    assert overlap(a, b) == (bool(paths_of(a) & paths_of(b)) or covers(a, b) or covers(b, a))


def covers(path: str, other: str) -> bool:
    """Whether a plain path is a folder around what the other one names."""
    return not set("*?[") & set(path) and other.startswith(f"{path}/")


anything = st.one_of(
    st.text(),
    st.text(alphabet="ab./*?[]!^-\\:e\u0301\u212a~"),
    st.lists(st.sampled_from(["a", "b", "", ".", "..", "*", "**", "[x]", "s3:"])).map("/".join),
)


@examples(1_000)
@given(anything)
def test_a_spelling_is_its_own_spelling(text: str) -> None:
    spelling = normalise(text)
    assert normalise(spelling) == spelling
    assert overlap(spelling, spelling)


@examples(1_000)
@given(anything, anything)
def test_overlap_is_symmetric_for_any_text(a: str, b: str) -> None:
    a, b = normalise(a), normalise(b)
    assert overlap(a, b) == overlap(b, a)


def climbs(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a path with `..` names, as the operating system walks it."""
    kept: list[str] = []
    for part in parts:
        if part != "..":
            kept.append(part)
        elif kept and kept[-1] != "..":
            kept.pop()
        else:
            kept.append("..")
    return tuple(kept)


@examples(600)
@given(st.lists(st.sampled_from(["a", "b", "*", "**", "..", ".."]), max_size=4))
def test_no_thing_is_lost_when_a_glob_climbs(parts: list[str]) -> None:
    """However the wildcards are filled in, the spelling still overlaps the path."""
    fills: dict[str, list[tuple[str, ...]]] = {
        "*": [("a",), ("c",)],
        "**": [(), ("a",), ("b", "c"), ("a", "b", "c")],
    }
    glob = (*parts, "a")
    for way in product(*[fills.get(part, [(part,)]) for part in glob]):
        path = "/".join(climbs(tuple(part for fill in way for part in fill)))
        assert overlap(normalise("/".join(glob)), path), path


resources = st.one_of(
    path_globs,
    st.sampled_from(["s3://a", "s3://a/b", "s3://a/*", "s3://**", "../a", "../**", "db:a", ""]),
    st.lists(
        st.sampled_from(["a", "b", "ab", "[ab]", "[bc]", "[ab]x", "[ab]*"]), min_size=1, max_size=3
    ).map("/".join),
)


@examples(400)
@given(st.lists(st.tuples(st.booleans(), resources), max_size=30), st.lists(resources, max_size=5))
def test_the_index_gives_what_all_pairs_give(
    changes: list[tuple[bool, str]], asked: list[str]
) -> None:
    index, held = Index(), set[str]()
    for added, resource in changes:
        if added:
            index.add(resource)
            held.add(resource)
        else:
            index.remove(resource)
            held.discard(resource)
        assert len(index) == len(held)
        assert (resource in index) is added
        for one in (resource, *asked):
            assert index.overlapping(one) == sorted(other for other in held if overlap(one, other))
    for resource in held:
        index.remove(resource)
    for top in (index._paths, index._urls):
        assert not top.children, "an empty index keeps no folders"
        assert not top.globs
