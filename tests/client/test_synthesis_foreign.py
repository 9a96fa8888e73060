"""A synthesis that others have written to is reported as tampered with."""

import re

import msgspec
import pytest

from fabric.errors import TamperedError
from fabric.store.keyspace import Keyspace
from fabric.view.change import changes
from fabric.view.report import report
from fabric.view.synthesis import Synthesis
from tests.support.stored_synthesis import KEYS, put, session, store_of, worked

GROWING = [{"op": "copy", "from": "", "path": f"/findings/{n}"} for n in range(40)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"findings:x", b'{"state":"agreed","said":{"A":[{"log":1,"ms":1}]},"verdict":{}}'),
        (b"document:/x", b'{"state":"agreed","said":{"A":[{"log":1,"ms":1}]}}'),
        (b"items:/x=1", b'{"state":"agreed","said":{"A":[{"log":1,"ms":1}]}}'),
        (b"contradictions:findings:x", b'{"values":[[]]}'),
    ],
)
async def test_a_field_that_cannot_be_shown_is_named(field: bytes, value: bytes) -> None:
    folding, states = worked(1)
    server = Keyspace()
    put(server, folding, states[-1], len(folding.revisions))
    server.hash(KEYS.synthesis)[field] = value
    with pytest.raises(TamperedError, match=re.escape(KEYS.synthesis)):
        report(await session(store_of(server)).synthesis(), "demo")


@pytest.mark.parametrize(
    "patch",
    [
        [{"op": "remove", "path": "/findings/never-there"}],
        [{"op": "add", "path": "/nothing/of/ours", "value": {}}],
        [{"op": "add", "path": "/findings/~2", "value": {}}],
        [{"op": "add", "path": "/findings/x", "value": 5}],
        [{"op": "add", "path": "/findings/x"}],
        [{"op": "add", "path": "", "value": {}}],
        [{"op": "remove", "path": ""}],
        [{"path": ""}],
        GROWING,
    ],
    ids=repr,
)
async def test_a_foreign_patch_is_named(patch: object) -> None:
    """A patch that copies the document into itself repeatedly would take all memory."""
    folding, states = worked(1)
    server = Keyspace()
    put(server, folding, states[-1], len(folding.revisions))
    last = len(folding.revisions) + 1
    fields = [b"patch", msgspec.json.encode(patch), b"causes", b"", b"ms", b"1", b"final", b"0"]
    server.stream(KEYS.revisions).append(b"%d-0" % last, fields, 0)
    server.hash(KEYS.synthesis)[b"revision"] = b"%d" % last
    with pytest.raises(TamperedError, match=re.escape(KEYS.revisions)):
        await session(store_of(server)).synthesis(revision=last)


def test_a_state_that_moves_a_terminal_is_not_shown() -> None:
    part = {"state": "a\x9b2Jb", "said": {}}
    patch = [{"op": "add", "path": "/findings/x", "value": part}]
    with pytest.raises(TamperedError, match="of-the-test"):
        list(changes(2, patch, is_final=False, key="of-the-test"))


def test_a_document_of_another_shape_is_named() -> None:
    revisions: list[object] = ["x", []]
    for revision in revisions:
        with pytest.raises(TamperedError, match="of-the-test"):
            report(Synthesis({"revision": revision}, "of-the-test"), "demo")
