"""Takes a partial result apart into statements, one for each part of the synthesis that it touches.

A finding is a part, named by its key. Everything else is a plain document: each value that is
neither a map nor a list is a part, named by its JSON Pointer (RFC 6901). If a list is merged item
by item, each item is a part. `null` withdraws what the agent said at a place, as in RFC 7396.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core.contradiction import DOCUMENT, FINDINGS, ITEMS, digest
from fabric.core.limits import PARTIAL_PARTS_MAX, Name, Names, Share
from fabric.core.signal import Finding
from fabric.core.synthesis import delta, merge, typed
from fabric.core.synthesis.canonical import canonical, canonical_raw
from fabric.core.synthesis.merge import Strategy
from fabric.core.synthesis.state import Statement

#: Stands between the pointer of a list and an item, which is its JSON or the digest of that.
ITEM_MARK = "="
#: Stands for the mark within the pointer. No pointer contains `~2`: RFC 6901 escapes `~`.
ITEM_MARK_ESCAPED = "~2"
#: Characters of an item that can be in its part's name.
ITEM_CHARS_MAX = 200

#: The member that keeps a result that is no map.
RESULT = "result"

_NULL = Raw(b"null")
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_decode = msgspec.json.Decoder().decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


class PlainFinding(Struct, frozen=True, forbid_unknown_fields=True):
    """A finding without typed fields, and without any that the fabric does not know."""

    key: Name
    value: Raw | UnsetType = UNSET
    evidence: Raw | UnsetType = UNSET
    confidence: Share | UnsetType = UNSET
    supersedes: Name | Names | UnsetType | None = UNSET
    withdrawn: bool = False

    def __post_init__(self) -> None:
        if (self.value is UNSET) is not self.withdrawn:
            raise ValueError("a `value`, or `withdrawn` as true: one of the two")


#: Fields of every finding, which are not kept as typed ones.
_PLAIN = frozenset(PlainFinding.__struct_fields__)

_decode_findings = msgspec.json.Decoder(list[PlainFinding]).decode
_decode_all = msgspec.json.Decoder(list[Finding]).decode
_decode_each = msgspec.json.Decoder(list[dict[str, Raw]]).decode


class Refusal(NamedTuple):
    """Why a result is not folded: what it held, and what is allowed."""

    code: str
    given: str
    allowed: str


class ResultPayload(Struct, frozen=True):
    """The fields of a signal's payload that the synthesis reads."""

    partial: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    all: Raw | UnsetType = UNSET

    @property
    def is_whole(self) -> bool:
        """Whether the result is all that its agent still says."""
        return self.all == Raw(b"true")


class Origin(Struct, frozen=True, omit_defaults=True):
    """Where a result comes from: the agent, its incarnation, the log entry, and the time.

    `since` is the log number of the agent's last checkpoint before it; of a STARTED, of the
    checkpoint that it resumes from.
    """

    agent: str
    incarnation: int
    log: int
    ms: int
    since: int = 0


def statements(
    payload: ResultPayload, origin: Origin, strategy: Strategy
) -> dict[str, Statement] | Refusal:
    """Return a result's statements by part. If it speaks of a part twice, the last one counts."""
    found: dict[str, Statement] = {}
    is_partial = _is_there(payload.partial)
    raw = payload.partial if is_partial else payload.result
    if not isinstance(raw, Raw) or not _is_there(raw):
        return found
    try:
        members = _decode_members(raw) if bytes(raw).startswith(b"{") else {RESULT: raw}
        if "findings" in members:
            # A result may use that name for something of its own.
            with nullcontext() if is_partial else suppress(*_UNREADABLE):
                found = _findings(members["findings"], origin)
                del members["findings"]
        for name, value in members.items():
            for part, statement in _places("/" + escape(name), _decode(value), origin, strategy):
                if part in found and part.startswith(ITEMS):
                    continue  # an item stands where it comes first
                found[part] = statement
                if len(found) > PARTIAL_PARTS_MAX:
                    break
    except _UNREADABLE as error:
        return Refusal("VALUE", f"what cannot be read ({error})", "findings and a document")
    if len(found) > PARTIAL_PARTS_MAX:
        instead = "send it in several, or put it into a file and say where that is"
        given, allowed = f"more than {PARTIAL_PARTS_MAX} values", f"{PARTIAL_PARTS_MAX}: {instead}"
        return Refusal("LIMIT", given, allowed)
    return found


def escape(member: str) -> str:
    """Return a member's name as a token of a JSON Pointer."""
    return member.replace("~", "~0").replace("/", "~1")


def unescape(token: str) -> str:
    """Return the member's name that a token of a JSON Pointer stands for."""
    return token.replace("~1", "/").replace("~0", "~")


def pointers_above(pointer: str) -> Iterator[str]:
    """Yield the pointers of the maps that a place lies in, the nearest first."""
    while (cut := pointer.rfind("/")) > 0:
        pointer = pointer[:cut]
        yield pointer


def places_above(part: str) -> list[str]:
    """Return the names of the places that a place, or an item, lies in, the nearest first."""
    section, _, name = part.partition(":")
    if section == ITEMS:
        pointer = list_of(name)
        return [f"{DOCUMENT}:{one}" for one in (pointer, *pointers_above(pointer))]
    return [f"{DOCUMENT}:{one}" for one in pointers_above(name)] if section == DOCUMENT else []


def prefixes_inside(place: str) -> list[str]:
    """Return the prefixes of the names of all places and items that lie in a place."""
    pointer = place.partition(":")[2]
    items = _escaped(pointer)
    return [f"{DOCUMENT}:{pointer}/", f"{ITEMS}:{items}{ITEM_MARK}", f"{ITEMS}:{items}/"]


def list_of(item: str) -> str:
    """Return the pointer of the list that an item, given by its name, belongs to."""
    # The pointer may contain the mark too: it is escaped there.
    return item.partition(ITEM_MARK)[0].replace(ITEM_MARK_ESCAPED, ITEM_MARK)


def _findings(raw: Raw, origin: Origin) -> dict[str, Statement]:
    """Return the statements of a list of findings. Raises msgspec.MsgspecError, ValueError."""
    with suppress(msgspec.ValidationError):
        # Nearly all findings are plain; and this reads them twice as fast.
        plain = _decode_findings(raw)
        return {f"{FINDINGS}:{one.key}": _finding(one, origin) for one in plain}
    found = {}
    for finding, members in zip(_decode_all(raw), _decode_each(raw), strict=True):
        said = _finding(finding, origin)
        fields = typed.read({name: one for name, one in members.items() if name not in _PLAIN})
        key = typed.key_of(fields) if finding.key is UNSET else finding.key
        if not key:
            raise ValueError("a finding without a key, and without a path, rule, title or message")
        if fields and not said.withdrawn:
            said.fields = _decode(canonical(fields))
            if said.value is UNSET:
                said.value = _NULL
        found[f"{FINDINGS}:{key}"] = said
    return found


def _finding(finding: PlainFinding | Finding, origin: Origin) -> Statement:
    supersedes = finding.supersedes
    keys = [supersedes] if isinstance(supersedes, str) else supersedes or []
    withdrawn = finding.withdrawn
    return Statement(
        origin.log,
        origin.ms,
        origin.incarnation,
        value=canonical_raw(finding.value) if isinstance(finding.value, Raw) else UNSET,
        evidence=canonical_raw(finding.evidence) if isinstance(finding.evidence, Raw) else UNSET,
        confidence=finding.confidence,
        supersedes=[] if withdrawn else sorted(set(keys)),
        supersedes_none=not keys and supersedes not in (UNSET, None) and not withdrawn,
        withdrawn=withdrawn,
    )


def _places(
    pointer: str, value: Any, origin: Origin, strategy: Strategy
) -> Iterator[tuple[str, Statement]]:
    """Yield the statements about a place of a document and all places in it.

    Raises ValueError if a delta is given what it cannot take.
    """
    if isinstance(value, Mapping) and value:
        if (
            next(iter(value)).startswith("$")
            and strategy(pointer, value) != merge.MAP
            and delta.operators(value)
        ):
            yield from _deltas(pointer, value, origin, strategy)
            return
        for name, item in value.items():
            yield from _places(f"{pointer}/{escape(name)}", item, origin, strategy)
        return
    if isinstance(value, list) and value:
        merged = strategy(pointer, value)
        if merged in merge.OF_ITEMS:
            yield from _items(pointer, value, origin, is_appended=merged == merge.APPEND)
            return
    raw = Raw(canonical(value))
    yield f"{DOCUMENT}:{pointer}", Statement(origin.log, origin.ms, origin.incarnation, value=raw)


def _items(
    pointer: str, items: list[Any], origin: Origin, *, is_appended: bool, is_withdrawn: bool = False
) -> Iterator[tuple[str, Statement]]:
    """Yield a statement for each item of a list that is merged item by item."""
    for index, item in enumerate(items):
        raw = Raw(canonical(item))
        said = Statement(origin.log, origin.ms, origin.incarnation)
        if is_withdrawn:
            said.withdrawn = True
        else:
            said.value, said.at = raw, 0 if is_appended else index
        yield _item(pointer, raw, origin, index if is_appended else None), said


def _deltas(
    pointer: str, value: Mapping[str, Any], origin: Origin, strategy: Strategy
) -> Iterator[tuple[str, Statement]]:
    """Yield the statements of a delta, one for each item; a total is a value like others."""
    index = 0
    for operator, given in delta.operators(value):
        if operator == delta.TOTAL:
            said = Statement(origin.log, origin.ms, origin.incarnation)
            said.value = Raw(canonical(value))
            yield f"{DOCUMENT}:{pointer}", said
            return
        merged = strategy(pointer, []) if isinstance(given, list) else ""
        if merged in merge.OF_ITEMS and not (operator == delta.REMOVE and merged == merge.APPEND):
            is_appended, is_withdrawn = merged == merge.APPEND, operator == delta.REMOVE
            yield from _items(
                pointer, given, origin, is_appended=is_appended, is_withdrawn=is_withdrawn
            )
            continue
        for item in given if isinstance(given, list) else [given]:
            said = Statement(origin.log, origin.ms, origin.incarnation)
            said.value = Raw(canonical(item))
            name = delta.item_name(operator, origin.log, index)
            yield f"{ITEMS}:{_escaped(pointer)}{ITEM_MARK}{name}", said
            index += 1


def _item(pointer: str, raw: Raw, origin: Origin, index: int | None) -> str:
    place = _escaped(pointer)
    if index is not None:
        return f"{ITEMS}:{place}{ITEM_MARK}{origin.log:016d}.{index:06d}"
    text = bytes(raw).decode()
    shown = text if len(text) <= ITEM_CHARS_MAX else digest(raw)
    return f"{ITEMS}:{place}{ITEM_MARK}{shown}"


def _escaped(pointer: str) -> str:
    return pointer.replace(ITEM_MARK, ITEM_MARK_ESCAPED)


def operator_of(part: str) -> str:
    """Return the operator of a delta, given the name of its part; "" for every other part."""
    section, _, name = part.partition(":")
    return delta.operator_of(name.partition(ITEM_MARK)[2]) if section == ITEMS else ""


def _is_there(raw: Raw | UnsetType) -> bool:
    return isinstance(raw, Raw) and raw != _NULL
