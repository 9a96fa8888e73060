"""Inserting into JSON with comments: everything else stays, byte for byte."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.agents.install.jsonc import JsonError, insert, parse, without

TEXTS = {
    "empty": "",
    "blank": "\n",
    "object": "{}",
    "flat": '{"a": 1}',
    "no final newline": '{\n  "a": 1\n}',
    "tabs": '{\n\t"a": {\n\t\t"b": [1]\n\t}\n}\n',
    "windows": '{\r\n  "a": 1\r\n}\r\n',
    "comments": '// top\n{\n  // one\n  "a": 1, /* two */\n  "hooks": {\n    // none yet\n  }\n}\n',
    "trailing comma": '{\n  "a": [\n    1,\n  ],\n}\n',
    "comma behind a comment": '{\n  "a": 1 // why\n  ,\n}\n',
    "hooks": '{\n  "hooks": {\n    "Stop": [\n      {"hooks": []}\n    ]\n  },\n  "z": 0\n}\n',
    "empty list": '{"hooks": {"Stop": []}, "new": [], "z": 1}',
    "text like a comment": '{"url": "http://x/*y*/", "q": "\\"//"}',
    "byte order mark": '\ufeff{"a": 1}',
}


def plain(text: str) -> Any:
    """Decode JSON with comments by other means: strings first, then what is not in one."""
    tokens = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
    bare = tokens.sub(lambda m: m[0] if m[0].startswith('"') else " ", text.removeprefix("\ufeff"))
    bare = re.sub(r'("(?:[^"\\]|\\.)*")|,(\s*[}\]])', lambda m: m[1] or m[2], bare)
    return json.loads(bare) if bare.strip() else {}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("path", [("new",), ("hooks", "Stop"), ("hooks", "Start")])
def test_a_member_is_added_and_nothing_else_changes(text: str, path: tuple[str, ...]) -> None:
    after = insert(text, path, [{"x": [1, "é"]}])
    expected = plain(text)
    inner = expected
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    inner[path[-1]] = [*inner.get(path[-1], []), {"x": [1, "é"]}]
    assert plain(after) == expected
    assert parse(after).value == expected
    # What was there is there still, in its order.
    rest = iter(after)
    assert all(character in rest for character in text)
    assert after.count("\r\n") == after.count("\n") or "\r\n" not in text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("path", [("new",), ("hooks", "Stop"), ("hooks", "Start")])
def test_what_was_added_is_taken_out_again(text: str, path: tuple[str, ...]) -> None:
    """And whatever came beside it meanwhile stays, as it was written."""
    after = insert(text, path, [{"x": [1, "é"]}])
    assert without(after, text, after) == (text, [])
    more = insert(insert(after, path, ["theirs"]), ("zz",), {"b": 2})
    rest, left = without(more, text, after)
    assert left == []
    expected = plain(insert(insert(text, path, ["theirs"]), ("zz",), {"b": 2}))
    assert plain(rest) == expected
    assert all(comment in rest for comment in re.findall(r"// \w+|/\* \w+ \*/", text))


def test_what_is_not_there_any_more_is_named() -> None:
    before, after = "{}", insert("{}", ("hooks",), {"Stop": [{"command": "a b"}], "End": [1]})
    edited = after.replace("a b", "mine")
    rest, left = without(edited, before, after)
    assert left == ["hooks → Stop"]
    assert parse(rest).value == {"hooks": {"Stop": [{"command": "mine"}]}}


def test_it_is_indented_as_the_rest() -> None:
    assert insert('{\n    "a": 1\n}\n', ("h",), {"b": 2}) == (
        '{\n    "a": 1,\n    "h": {\n        "b": 2\n    }\n}\n'
    )
    assert insert('{"a": 1}', ("h",), {"b": 2}) == '{"a": 1, "h": {"b": 2}}'


@pytest.mark.parametrize("text", ["{", '{"a" 1}', "{'a': 1}", '{"a": 1} x', "[" * 200, '{"a": }'])
def test_what_is_no_json_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(JsonError, match="line 2"):
        insert("\n" + text, ("h",), [])


@pytest.mark.parametrize("text", ["[]", "5", '{"h": 5}', '{"h": {"i": {}}}'])
def test_what_has_another_shape_is_refused(text: str) -> None:
    with pytest.raises(KeyError):
        insert(text, ("h", "i"), [1])


_values = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
_names = st.text(max_size=4)
_documents = _values | st.lists(_values, max_size=3) | st.dictionaries(_names, _values, max_size=3)


@settings(max_examples=50)
@given(st.dictionaries(_names, _documents, max_size=4), st.sampled_from([None, 1, 2, "\t"]))
def test_any_document_is_read_as_json_reads_it(document: dict[str, Any], indent: Any) -> None:
    text = json.dumps(document, indent=indent)
    assert parse(text).value == document
    if "fabric" not in document:
        assert json.loads(insert(text, ("fabric",), [1])) == {**document, "fabric": [1]}


@settings(max_examples=50)
@given(
    st.dictionaries(_names, _documents, max_size=4),
    st.dictionaries(_names, _documents, max_size=2),
    st.sampled_from([None, 1, "\t"]),
)
def test_what_others_write_anew_keeps_all_of_theirs(
    document: dict[str, Any], theirs: dict[str, Any], indent: Any
) -> None:
    text = json.dumps(document, indent=1)
    if "fabric" not in document and "fabric" not in theirs:
        after = insert(text, ("fabric", "hooks"), [{"command": "a"}, {"hooks": [{"command": "b"}]}])
        edited = json.dumps({**json.loads(after), **theirs}, indent=indent)
        rest, left = without(edited, text, after)
        assert (json.loads(rest), left) == ({**document, **theirs}, [])
