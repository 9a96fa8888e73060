"""The synchronous face is the asynchronous one: names, arguments, types and docstrings."""

import ast
import inspect
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from fabric import Agent, Fabric, Session, SyncAgent, SyncFabric, SyncSession

TWINS = [(Fabric, SyncFabric), (Session, SyncSession), (Agent, SyncAgent)]

#: Members of the asynchronous face that have no twin, and why.
WITHOUT_TWIN = {
    "Fabric.store": "its methods are coroutines; only tools that read the keys themselves use it",
    "Fabric.keys": "names of keys, for the same tools",
    "Agent.take_messages": "for the agent daemon, which speaks for many agents on one event loop",
    "Agent.leave": "for the agent daemon, which may stop before its agents do",
}

#: How names, signatures and docstrings of the asynchronous face read in the other one.
NAMES = [("__aenter__", "__enter__"), ("__aexit__", "__exit__")]
SIGNATURES = [
    (r"AbstractAsyncContextManager", "AbstractContextManager"),
    (r"AsyncGenerator\[(.*), None\]", r"Generator[\1, None, None]"),
    (r"AsyncIterator\[(.*)\]", r"Generator[\1, None, None]"),
    (r"(?<!str, )\b(Fabric|Session|Agent)\b", r"Sync\1"),  # `dict[str, Agent]` holds records
]
WORDS = [("async with", "with"), (r"\bFabric\.connect", "SyncFabric.connect")]


class Shown(NamedTuple):
    """What a caller sees of a member of a class."""

    kind: str
    signature: str
    doc: str


def in_sync(text: str, changes: Sequence[tuple[str, str]]) -> str:
    """Return a text of the asynchronous face as the synchronous one has it."""
    for one, other in changes:
        text = re.sub(one, other, text)
    return text


def members(kind: type) -> dict[str, Any]:
    """Return the public members of a class and its bases, and how it is entered and left."""
    entered = {"__aenter__", "__aexit__", "__enter__", "__exit__"}
    bases = [base for base in reversed(kind.__mro__) if base.__module__.startswith("fabric.")]
    found = {name: one for base in bases for name, one in vars(base).items()}
    return {name: one for name, one in found.items() if name in entered or not name.startswith("_")}


def shown(member: Any) -> Shown:
    function: Any = member.fget if isinstance(member, property) else member
    function = getattr(function, "__func__", function)
    signature = str(inspect.signature(function)).replace("'", "").replace("record.", "")
    return Shown(type(member).__name__, signature, " ".join((function.__doc__ or "").split()))


def twin_of(member: Any) -> Shown:
    kind, signature, doc = shown(member)
    return Shown(kind, in_sync(signature, SIGNATURES), in_sync(doc, WORDS))


@pytest.mark.parametrize(("original", "twin"), TWINS)
def test_the_twin_lacks_nothing_and_says_the_same(original: type, twin: type) -> None:
    wanted = {
        in_sync(name, NAMES): twin_of(member)
        for name, member in members(original).items()
        if f"{original.__name__}.{name}" not in WITHOUT_TWIN
    }
    found = {name: shown(member) for name, member in members(twin).items()}
    assert sorted(found) == sorted(wanted)
    for name, member in wanted.items():
        assert found[name] == member
    assert (twin.__doc__ or "").split() == in_sync(original.__doc__ or "", WORDS).split()


@pytest.mark.parametrize("kind", [kind for pair in TWINS for kind in pair])
def test_every_member_is_documented_and_names_its_arguments(kind: type) -> None:
    for name, member in members(kind).items():
        _, signature, doc = shown(member)
        assert doc.endswith("."), name
        assert "**" not in signature or name == "add", name  # it takes names of the caller's own


@pytest.mark.parametrize("kind", [twin for _, twin in TWINS])
def test_an_editor_shows_the_docstring_of_a_forwarded_member(kind: type) -> None:
    """It reads the literal that follows the assignment; `help` reads the original's docstring."""
    (body,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(body, ast.ClassDef)
    forwarded = 0
    for statement, following in pairwise(body.body):
        if isinstance(statement, ast.Assign):
            forwarded += 1
            assert isinstance(statement.targets[0], ast.Name)
            assert isinstance(following, ast.Expr)
            assert isinstance(following.value, ast.Constant)
            written = str(following.value.value).split()
            assert written == shown(vars(kind)[statement.targets[0].id]).doc.split()
    assert forwarded
