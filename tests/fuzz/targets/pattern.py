"""Names of resources: their canonical form, and whether two overlap, in bounded time."""

from __future__ import annotations

from contextlib import suppress

from fabric.core.limits import NAME_CHARS_MAX
from fabric.core.record import ClaimRecord, ClaimState
from fabric.core.resource import Index, is_glob, overlap
from fabric.core.resource_name import ManyNamesError, names_of, normalise
from fabric.ops.guard import Held
from tests.fuzz.tokens import HOSTILE

ANSWERS: tuple[type[Exception], ...] = ()
WORDS = [
    *(
        b"**",
        b"*",
        b"?",
        b"[a-z]",
        b"[!a]",
        b"[^",
        b"]",
        b"..",
        b"./",
        b"//",
        b"s3://",
        b"\n",
        b"a/",
        b"{",
        b"}",
        b",",
        b"[id]",
        b"\\",
        b"1..3",
        b"file:///",
        b"%2C",
    ),
    *(b"**/", b"/**", b"/../", b"[]]", b"[z-a]", "é".encode(), "e\u0301".encode(), *HOSTILE),
]

#: Resources of one input.
RESOURCES_MAX = 12


def seeds() -> list[bytes]:
    """Return resources of every kind."""
    return [
        b"src/**\nsrc/a.py\n*.py\n./b.py\nsrc/../c",
        b"**\n/etc/*\nnotes[1\n[a-c]x\n[!a-c]x\ns3://b/x\ns3://b/*",
        b"a/*/../b\na/**/../b\n../x\n.\nsrc/\n",
        b"**/*a*/**/*b*\n" + b"a/" * 60 + b"\n" + b"*a" * 60 + b"\n" + b"**/a/" * 50,
    ]


def run(data: bytes) -> None:
    """Read lines as resources; compare each pair, directly and in an index."""
    lines = data.decode("utf-8", "replace").split("\n")[:RESOURCES_MAX]
    names = [normalise(line[:NAME_CHARS_MAX]) for line in lines]
    with suppress(ManyNamesError):
        known = names_of(line[:NAME_CHARS_MAX] for line in lines)
        assert names_of(known) == known
    index = Index()
    for name in names:
        assert normalise(name) == name
        index.add(name)
    for name in names:
        near = [other for other in sorted(set(names)) if overlap(name, other)]
        assert name in near
        assert index.overlapping(name) == near
        assert all(overlap(other, name) for other in near)
        if not is_glob(name):
            claim = ClaimRecord("A", ClaimState.HELD, [name])
            assert Held([claim]).on(name)
    for name in names:
        index.remove(name)
    assert not len(index)
