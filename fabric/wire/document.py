"""The document of a synthesis: the JSON Patches that build it, and its members as typed structs.

The document is what the patches make (docs/protocol.md): every part with all that agents said of
it. The structs say what holds. `fabric.view.synthesis.Synthesis` puts them together.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from fabric.core.contradiction import question_id_of
from fabric.core.synthesis import delta, typed
from fabric.core.synthesis.delta import Delta, applied
from fabric.core.synthesis.merge import merge_deltas
from fabric.core.synthesis.partial import ITEM_MARK, escape, list_of, unescape
from fabric.core.synthesis.publish import Operation
from fabric.core.synthesis.relation import Relations
from fabric.core.synthesis.state import RELATIONS, SAID, SECTIONS, Edge, Standing, State

#: One value holds at such a place.
_SINGLE = frozenset({State.AGREED, State.DECIDED, State.REDUCED})

#: No agent says anything about such a place any more.
_GONE = frozenset({State.WITHDRAWN, State.SUPERSEDED})

#: A finding counts while agents say so, in agreement or not.
HELD = frozenset({State.AGREED, State.CONTRADICTED, State.DECIDED})

_NOTHING: Any = object()

# The structs are in no cycle (`gc=False`): the garbage collector looks at all that it is to know
# again and again, which took longer than to make 100,000 findings.
_encode = msgspec.json.Encoder().encode


class Source(Struct, frozen=True, gc=False):
    """One agent's statement: since when (ms since the epoch), and whether it still holds.

    `log` is the number of the log entry that made it. Without a value it withdraws an earlier one.
    """

    agent: str
    log: int
    ms: int
    incarnation: int = 1
    standing: Standing = Standing.HOLDS
    value: Any = None
    evidence: Any = None
    confidence: float | None = None
    supersedes: list[str] = []
    fields: dict[str, Any] = {}


class Verdict(Struct, frozen=True, gc=False):
    """A person's decision: for which agent's value, by whom, and when (ms since the epoch)."""

    decision: str
    by: str
    log: int
    ms: int


class Finding(Struct, frozen=True, gc=False):
    """All that is known of one key. `value` is None while no value holds, or two values compete.

    `sources` are all kept statements, in log order; `first_ms` is the first one's time, epoch ms.
    """

    key: str
    state: State
    value: Any
    sources: list[Source]
    first_ms: int
    superseded_by: list[Edge] = []
    verdict: Verdict | None = None
    #: The rule that has decided between several values.
    policy: str = ""
    #: Of a typed finding: path, line, rule, severity, message and so on, merged over its agents.
    fields: dict[str, Any] = {}


class Contradiction(Struct, frozen=True, gc=False):
    """Different values for one part, each as the statements that give it, the earliest first.

    `question` is the id of the question that a person answers with one of `options`.
    """

    part: str
    question: str
    values: list[list[Source]]

    @property
    def options(self) -> list[str]:
        """One agent for each value: a decision for the agent is a decision for its value."""
        return [claims[0].agent for claims in self.values]


class Refinement(Struct, frozen=True):
    """What a refiner made of a revision, and when (ms since the epoch).

    `markdown`: its texts are Markdown, and its writer is trusted.
    """

    value: Any
    log: int
    ms: int
    revision: int = 0
    markdown: bool = False


def relations(official: Mapping[str, Any]) -> Relations:
    """Return what is said of keys as such, given the official document."""
    return msgspec.convert(official.get("relations", {}), Relations)


def findings(official: Mapping[str, Any]) -> dict[str, Finding]:
    """Return all findings by key, sorted, given the official document.

    Those about paths that have been renamed are under their new names. A key whose new name is
    taken stays as it is, and is the same thing as that one.
    """
    parts: Mapping[str, Any] = official.get("findings", {})
    found = {key: finding(key, parts[key]) for key in sorted(parts)}
    known = relations(official)
    if not known.renamed:
        return found
    paths = {key: _path_of(one) for key, one in found.items()}
    moves = {key: new for key, old in paths.items() if (new := known.moved(old)) != old}
    moved = {key: one for key, one in found.items() if key not in moves}
    for key, path in moves.items():
        old, one = paths[key], found[key]
        fields = {**one.fields, "path": path} if "path" in one.fields else one.fields
        name = path + key[len(old) :] if key.startswith(old) else key
        if name in moved:  # then both are one thing
            fields = {**fields, "same_as": sorted({*fields.get("same_as", ()), name})}
            name = key
        moved[name] = msgspec.structs.replace(one, key=name, fields=fields)
    for name, one in moved.items():
        named = {
            link: sorted({present_key(known, key, moved) for key in one.fields[link]})
            for link in typed.LINKS & one.fields.keys()
        }
        if named:
            moved[name] = msgspec.structs.replace(one, fields={**one.fields, **named})
    return dict(sorted(moved.items()))


def present_key(known: Relations, key: str, present: Container[str]) -> str:
    """Return the key that a finding has now: one about a path that was renamed has moved with it.

    `present` are the keys that there are.
    """
    path = key.partition(":")[0]
    return key if key in present else known.moved(path) + key[len(path) :]


def _path_of(one: Finding) -> str:
    """Return the path that a finding is about; "" if it is about none."""
    named = typed.place_in(one.key)
    return str(one.fields.get("path") or (named[0] if named is not None else ""))


def finding(key: str, part: Mapping[str, Any]) -> Finding:
    """Return a finding, given its part of the document."""
    first_ms = part.get("first", {}).get("ms", 0)
    own = {"key": key, "sources": sources(part), "first_ms": first_ms}
    found = msgspec.convert({"value": None, **part, **own}, Finding)
    if not found.fields:
        holding = [one.fields for one in found.sources if one.standing is Standing.HOLDS]
        # What no longer holds keeps the place that it was about.
        given = holding or [one.fields for one in found.sources[::-1]]
        first = next((fields for fields in given if fields), {})
        found = msgspec.structs.replace(found, fields=first)
    return found


def sources(part: Mapping[str, Any]) -> list[Source]:
    """Return all statements of a part, in log order."""
    # A value that is that of the part is stored once, with the part.
    shared = {"value": part["value"]} if "value" in part else {}
    found = [
        msgspec.convert({"agent": agent, **({} if one.get("withdrawn") else shared), **one}, Source)
        for agent, said in part["said"].items()
        for one in said
    ]
    return sorted(found, key=lambda one: (one.log, one.agent))


def contradiction(part: str, record: Mapping[str, Any]) -> Contradiction:
    """Return the contradiction over a part, given its record in the document."""
    values = [[msgspec.convert({"ms": 0, **one}, Source) for one in c] for c in record["values"]]
    return Contradiction(part, question_id_of(part), values)


def patch(
    session: str,
    number: int,
    complete: bytes,
    operations: Sequence[Operation],
    *,
    same: bytes = b"",
    is_beginning: bool = False,
) -> bytes:
    """Return the JSON Patch (RFC 6902) from the previous revision to this one.

    The first patch applies to `{}`; one that `is_beginning` replaces the whole document. `same` are
    the rules by which findings are one, if there are any.
    Every member is added, whether new or not: adding a member
    that exists replaces it (RFC 6902, section 4.1).
    """
    items: list[bytes] = []
    if number == 1 or is_beginning:
        sections = b",".join(b'"%s":{}' % section.encode() for section in SECTIONS)
        if same:
            sections = b'"same":%s,%s' % (same, sections)
        whole = b'{"session":%s,"revision":%d,"complete":%s,%s}'
        items.append(_add(b'""', whole % (_encode(session), number, complete, sections)))
    else:
        items.append(_add(b'"/revision"', b"%d" % number))
        items.append(_add(b'"/complete"', complete))
    for operation in operations:
        inner = "" if operation.section == RELATIONS else f"/{escape(operation.name)}"
        path = _encode(f"/{operation.section}{inner}")
        if operation.record is None:
            items.append(b'{"op":"remove","path":%s}' % path)
        else:
            items.append(_add(path, operation.record))
    return b"[%s]" % b",\n".join(items)


def _add(path: bytes, value: bytes) -> bytes:
    return b'{"op":"add","path":%s,"value":%s}' % (path, value)


class _Place(Struct):
    """A place of the merged document: its own value, the items of its list, the places in it."""

    value: Any = _NOTHING
    items: list[tuple[tuple[int, int, str], Any]] = []
    #: What changes the agents' own values, one of their parts, and those values.
    deltas: list[Delta] = []
    part: Mapping[str, Any] = {}
    given: Mapping[str, Any] = {}
    inner: dict[str, _Place] = {}


def nested(places: Mapping[str, Any], items: Mapping[str, Any]) -> Any:
    """Return the merged document, given its places by pointer and its list items by name.

    A place where every agent's value stands for itself shows the values by agent; where one value
    holds, the place shows that value. An empty map disappears if others put something into it.
    Where agents disagree about the kind of a place nothing is lost: beside a map, another value
    is the map's member ""; beside a list, it is the last item.
    """
    root = _Place()
    for pointer, part in places.items():
        value = _value(part)
        if value is not _NOTHING:
            _find(root, pointer).value = value
    for name, part in items.items():
        if State(part["state"]) in _GONE:
            continue
        first, place = part["first"], _find(root, pointer := list_of(name))
        item = name.partition(ITEM_MARK)[2]
        if operator := delta.operator_of(item):
            place.part = part
            place.given = _given(places[pointer]) if pointer in places else {}
            index = delta.index_of(item)
            place.deltas.append(Delta(first["log"], index, first["agent"], operator, part["value"]))
        else:
            place.items.append(((first["log"], first.get("at", 0), name), part["value"]))
    made = _made(root)
    return {} if made is _NOTHING else made


def _find(root: _Place, pointer: str) -> _Place:
    place = root
    for token in pointer.split("/")[1:]:
        place = place.inner.setdefault(unescape(token), _Place())
    return place


def _value(part: Mapping[str, Any]) -> Any:
    state = State(part["state"])
    if state in _GONE:
        return _NOTHING
    if state in _SINGLE:
        return part["value"]
    given = _given(part)
    return {} if all(value == {} for value in given.values()) else given


def _given(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return each agent's present value."""
    given: dict[str, Any] = {}
    for agent in sorted(part["said"]):
        for one in part["said"][agent]:
            if one.get("standing", Standing.HOLDS) in SAID and not one.get("withdrawn"):
                value = one.get("value", part.get("value"))
                if value is not None:
                    given[agent] = value
                break
    return given


def _made(place: _Place) -> Any:
    """Return the value of a place. Its depth is bounded, because that of payloads is."""
    inner = {name: _made(one) for name, one in sorted(place.inner.items())}
    inner = {name: value for name, value in inner.items() if value is not _NOTHING}
    value = place.value
    if place.deltas:
        value = merge_deltas(place.part, applied(place.given, place.deltas))
    if place.items:
        listed = [item for _, item in sorted(place.items, key=lambda item: item[0])]
        value = listed if value is _NOTHING or value in ([], {}) else [*listed, value]
    if not inner:
        return value
    if value is not _NOTHING and value not in ([], {}):
        inner.setdefault("", value)
    return inner
