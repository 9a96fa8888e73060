"""What a synthesis must say, worked out anew from all results at once: naive, slow and short.

Nothing here is the fold's: it is written from what the issue and the docstrings promise. It knows
every event of a history and asks of each thing who says what of it now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from fabric.core.policy import RestartPolicy
from fabric.core.rule_table import Merge
from tests.core.findings import Event, Rules
from tests.core.oracle_compare import (
    SILENT,
    Claim,
    Terms,
    camps,
    first,
    is_same,
    members,
    terms_of,
    winner,
)
from tests.core.oracle_values import (
    is_delta,
    is_number,
    joined,
    reduced,
    table,
    text,
    whole,
)


class Word(NamedTuple):
    """An agent's word. What it supersedes may be said by an earlier one, at `since`."""

    value: Any
    incarnation: int
    log: int
    keys: list[str]
    since: int = 0
    confidence: float = 0
    fields: Mapping[str, Any] = MappingProxyType({})


#: A part's name → what is to be seen there.
Parts = dict[str, dict[str, Any]]


def merge_of(pointer: str, rules: Rules) -> Merge | None:
    for merge in rules.merges:
        wanted, tokens = merge.path.split("/"), pointer.split("/")
        if len(wanted) == len(tokens) and all(
            one == other or (one == "*" and other)
            for one, other in zip(wanted, tokens, strict=True)
        ):
            return merge
    return None


def reducer_of(pointer: str, value: Any, rules: Rules) -> str:
    named = merge_of(pointer, rules)
    if named is not None:
        return named.reducer or "agree"
    if isinstance(value, list):
        return "list"
    if is_delta(value):
        return "sum"
    return "agree" if is_number(value) else "by_source"


#: Said of an item that its agent takes from a list that many add to.
GONE: Any = object()


def leaves(pointer: str, value: Any, log: int, rules: Rules) -> Iterator[tuple[str, Any]]:
    """Yield what a document says, by part: places, items of lists, and deltas."""
    if is_delta(value) and "$total" not in value:
        yield from deltas(pointer, value, log, rules)
        return
    if is_delta(value):
        yield f"document:{pointer}", value
        return
    if isinstance(value, dict) and value:
        for name, item in value.items():
            token = name.replace("~", "~0").replace("/", "~1")
            yield from leaves(f"{pointer}/{token}", item, log, rules)
        return
    merged = reducer_of(pointer, value, rules)
    if isinstance(value, list) and value and merged in ("union", "append"):
        yield from items(pointer, value, log, merged)
        return
    yield f"document:{pointer}", value


def items(pointer: str, value: list[Any], log: int, merged: str) -> Iterator[tuple[str, Any]]:
    for index, item in enumerate(value):
        shown = text(item)
        if len(shown) > 200:
            shown = hashlib.blake2b(shown.encode(), digest_size=8).hexdigest()
        if merged == "append":
            shown = f"{log:016d}.{index:06d}"
        yield f"items:{pointer.replace('=', '~2')}={shown}", item


def deltas(pointer: str, value: Any, log: int, rules: Rules) -> Iterator[tuple[str, Any]]:
    index, merged = 0, reducer_of(pointer, [], rules)
    for operator in sorted(value, reverse=True):
        given = value[operator]
        if isinstance(given, list) and merged == "union":
            for name, item in items(pointer, given, log, merged):
                yield name, GONE if operator == "$remove" else item
        elif operator == "$append" and merged == "append":
            yield from items(pointer, given, log, merged)
        else:
            for item in given if isinstance(given, list) else [given]:
                name = f"{operator}:{log:016d}.{index:06d}"
                yield f"items:{pointer.replace('=', '~2')}={name}", item
                index += 1


def operator_in(part: str) -> str:
    """Return the operator of a part that is a delta, else ""."""
    name = part.partition("=")[2] if part.startswith("items:") else ""
    return name.partition(":")[0] if name.startswith("$") else ""


PATHS = {"a.py": "a.py", "./src//b.py": "src/b.py"}
SEVERITIES = {"high": "high", "HIGH": "high", "warning": "medium", "info": "info"}
ORDER = ["critical", "high", "medium", "low", "info"]


def typed(finding: dict[str, Any]) -> dict[str, Any]:
    """Return the typed fields of a finding, in one spelling; the others in `data`."""
    fields: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for name, value in finding.items():
        if name in ("key", "value", "evidence", "confidence", "supersedes", "withdrawn"):
            continue
        if value is None:
            continue
        fitting: Any = None
        if name == "path":
            fitting = PATHS[value]
        elif name == "line":
            fitting = {1: 1, "2": 2}.get(value)
        elif name == "severity":
            fitting = SEVERITIES.get(value)
        elif name in ("same_as", "distinct_from"):
            fitting = sorted({value} if isinstance(value, str) else {*value})
        elif name in ("rule", "message") or (name == "data" and isinstance(value, dict)):
            fitting = value
        if fitting is None:
            data[name] = value
        else:
            fields[name] = fitting
    if data:
        fields["data"] = {**fields.get("data", {}), **data}
    return fields


def is_plain(found: Any) -> bool:
    """Whether `findings` of a result are its author's own, and none of the fabric's."""
    return not isinstance(found, list) or any(not isinstance(one, dict) for one in found)


def said_in(event: Event, rules: Rules) -> dict[str, tuple[Any, list[str] | None, bool]]:
    """Return what an event says: part → value, keys superseded, and whether it is taken back.

    The keys are None where it does not say what it supersedes.
    """
    body = event.partial if event.partial is not None else event.result
    said: dict[str, tuple[Any, list[str] | None, bool]] = {}
    if body is None:
        return said
    body = dict(body) if isinstance(body, dict) else {"result": body}
    if event.partial is not None or not is_plain(body.get("findings")):
        for one in body.pop("findings", []):
            keys = one.get("supersedes")
            keys = [keys] if isinstance(keys, str) else keys
            fields = typed(one)
            is_withdrawn = one.get("withdrawn", False)
            value = one.get("value")
            if value is None and fields and not is_withdrawn:
                value = SILENT
            key = one.get("key") or ":".join(
                str(fields[name]) for name in ("path", "line", "rule") if name in fields
            )
            if "rule" not in fields and "key" not in one and "message" in fields:
                mark = hashlib.blake2b(fields["message"].encode(), digest_size=8).hexdigest()
                key = f"{key}:#{mark}".lstrip(":")
            said[f"findings:{key}"] = (value, None if is_withdrawn else keys, is_withdrawn)
    for name, value in body.items():
        token = name.replace("~", "~0").replace("/", "~1")
        for part, item in leaves(f"/{token}", value, event.log, rules):
            if part.startswith("items:") and part in said:
                continue
            said[part] = (None if item is GONE else item, None, item is GONE)
    return said


def place(part: str) -> str:
    """Return where in the document a part lies, as the pointer that is above all it holds."""
    section, _, name = part.partition(":")
    return name.partition("=")[0].replace("~2", "=") if section == "items" else name


def excludes(part: str, other: str) -> bool:
    """Whether an agent that says the one no longer says the other: map or list, or a value."""
    if "findings" in (part.partition(":")[0], other.partition(":")[0]) or part == other:
        return False
    if operator_in(part) and other == f"document:{place(part)}":
        return False  # a delta changes the value at its place
    for above, inner in ((part, other), (other, part)):
        if above.startswith("document:"):
            here = place(inner) == place(above) and inner.startswith("items:")
            if here or place(inner).startswith(place(above) + "/"):
                return True
    return False


def counts(
    event: Event, last: int, completed: set[int], resumed: dict[int, int], rules: Rules
) -> bool:
    """Whether a statement holds: of the present run, one that completed, or one gone on from."""
    if rules.policy is RestartPolicy.KEEP:
        return True
    alive = {last, *completed}
    for number in sorted(alive):
        chain = range(event.incarnation + 1, number + 1)
        if number >= event.incarnation and all(event.log <= resumed.get(one, 0) for one in chain):
            return True
    return False


def spoken(history: list[Event], rules: Rules) -> dict[str, dict[str, Word]]:
    """Return who says what now: part → agent → word. Parts that nobody speaks of are there too."""
    found: dict[str, dict[str, Word]] = {}
    events = [one for one in history if one.verdict is None and one.refined is None]
    for agent in {one.agent for one in events}:
        own = [one for one in events if one.agent == agent]
        last = max(one.incarnation for one in own)
        completed = {one.incarnation for one in own if one.kind == "COMPLETED"}
        resumed = {one.incarnation: one.since for one in own if one.kind == "STARTED" and one.since}
        view: dict[str, Word] = {}
        heirs: dict[tuple[str, int], tuple[list[str], int]] = {}
        for event in sorted(own, key=lambda one: (one.incarnation, one.log)):
            said = said_in(event, rules)
            for part in said:
                found.setdefault(part, {})
            if not counts(event, last, completed, resumed, rules):
                continue
            if event.is_whole:
                view.clear()  # what it leaves out is withdrawn
            for part, (value, keys, is_withdrawn) in said.items():
                # To take an item back says nothing about what is around it.
                for other in [one for one in view if not is_withdrawn and excludes(part, one)]:
                    del view[other]
                view.pop(part, None)
                if keys is not None:
                    heirs[part, event.incarnation] = keys, event.log
                if not is_withdrawn:
                    names, since = heirs.get((part, event.incarnation), ([], event.log))
                    confidence, fields = said_of(event, part, rules)
                    number = event.incarnation
                    view[part] = Word(value, number, event.log, names, since, confidence, fields)
        for part, word in view.items():
            if not (part.startswith("document:") and word[0] is None):
                found[part][agent] = word
    return found


def said_of(event: Event, part: str, rules: Rules) -> tuple[float, dict[str, Any]]:
    """Return how sure an event is of a finding, and its typed fields."""
    if not part.startswith("findings:"):
        return 0, {}
    body = event.partial if event.partial is not None else event.result
    found: tuple[float, dict[str, Any]] = 0, {}
    for one in body["findings"]:
        alone = event._replace(partial={"findings": [one]}, result=None)
        if part in said_in(alone, rules):
            found = one.get("confidence", 0), typed(one)
    return found


def kept(history: list[Event], part: str, rules: Rules) -> list[tuple[str, int]]:
    """Return the values of a finding that a part keeps, with their log numbers.

    Of each incarnation the last two values, the last one that says what it supersedes, and what
    was said last before each of the last four checkpoints.
    """
    found: set[tuple[str, int]] = set()
    runs: dict[tuple[str, int], list[Event]] = {}
    for event in sorted(history, key=lambda one: one.log):
        if event.verdict is None and event.refined is None and part in said_in(event, rules):
            runs.setdefault((event.agent, event.incarnation), []).append(event)
    for events in runs.values():
        said = [(event.log, said_in(event, rules)[part]) for event in events]
        values = [(log, one) for log, one in said if not one[2]]
        explicit = [(log, one) for log, one in values if one[1] is not None]
        since = {event.log: event.since for event in events}
        ends = {since[log]: (log, one) for log, one in said} if any(since.values()) else {}
        before = [ends[one] for one in sorted(ends)[-5:] if not ends[one][1][2]]
        for log, (value, _, _) in [*values[-2:], *explicit[-1:], *before]:
            found.add(("null" if value == SILENT else text(value), log))
    return sorted(found)


class Seen(NamedTuple):
    """A part whose values are compared: what is to be seen of it."""

    state: str
    value: Any
    standing: dict[str, str]
    #: While it is contradicted: the agents of each value.
    camps: Sequence[list[str]] = ()
    #: Whether what a person decided for is a value beside those of the agents.
    has_candidate: bool = False


def compared(part: str, words: dict[str, Word], verdict: Event | None, rules: Rules) -> Seen:
    """Return what these agents, whose words hold, make of a part."""
    claims = [
        Claim(agent, word.log, word.confidence, word.value, word.fields)
        for agent, word in words.items()
    ]
    terms = terms_of(part, claims, rules)
    if verdict is not None and verdict.verdict is not None:
        return _after(claims, terms, verdict.verdict)
    found = camps(claims, terms)
    if len(found) < 2:
        best = first(found[0] if found else claims)
        return Seen("agreed", None if best.value == SILENT else best.value, {})
    chosen = winner(found, terms.policy)
    if chosen is not None:
        lost = {one.agent: "overruled" for camp in found if camp is not chosen for one in camp}
        value = first(chosen).value
        return Seen("decided", None if value == SILENT else value, lost)
    return Seen("contradicted", None, {}, [[one.agent for one in camp] for camp in found])


def _after(claims: list[Claim], terms: Terms, verdict: tuple[str, Any, list[Any]]) -> Seen:
    """Return what a part is after a person's verdict: digests first, then whatever is the same."""
    _, chosen, others = verdict
    standing: dict[str, str] = {}
    with_chosen, fresh = [], []
    for one in claims:
        own = members(one, terms)
        if not own:
            continue
        said = {"value": one.value} if one.value != SILENT else {}
        shown = text({**said, **own} if terms.contradict_on else own["value"])
        if shown in map(text, others):
            standing[one.agent] = "rejected"
        elif shown == text(chosen) or _alike(own, chosen, terms):
            with_chosen.append(one)
        elif any(_alike(own, other, terms) for other in others):
            standing[one.agent] = "rejected"
        else:
            fresh.append(one)
    if not fresh:
        value = chosen
        if terms.contradict_on:
            value = chosen.get("value") if isinstance(chosen, dict) else chosen
        return Seen("decided", value, standing)
    rest = [one for one in claims if one.agent not in standing]
    found = [[one.agent for one in camp] for camp in camps(rest, terms)]
    return Seen("contradicted", None, standing, found, not with_chosen)


def _alike(own: dict[str, Any], other: Any, terms: Terms) -> bool:
    if not terms.contradict_on:
        return is_same(own["value"], other, terms)
    if not isinstance(other, dict):
        other = {"value": other}
    known = members(Claim("", 0, 0, other.get("value", SILENT), other), terms)
    return all(is_same(own[name], known[name], terms) for name in own if name in known)


def judged(history: list[Event], rules: Rules, camped: dict[str, Seen] | None = None) -> Parts:
    """Return what is to be seen of every part; `camped` gets who is on which side."""
    camped = {} if camped is None else camped
    said = spoken(history, rules)
    edges = [
        (target, part.partition(":")[2], agent, word.since)
        for part, words in said.items()
        for agent, word in words.items()
        for target in word.keys
    ]
    verdicts: dict[str, Event] = {}
    for one in sorted(history, key=lambda event: event.log):
        if one.verdict is not None:
            part, chosen, others = one.verdict
            earlier = verdicts.get(part)
            if earlier is not None and earlier.verdict is not None:
                # What was considered once is not asked about again, unless it is chosen now.
                _, former, rejected = earlier.verdict
                others = [*others, former, *rejected]
            others = [value for value in others if text(value) != text(chosen)]
            verdicts[part] = one._replace(verdict=(part, chosen, others))
    parts: Parts = {}
    for part, words in said.items():
        section, _, name = part.partition(":")
        standing = dict.fromkeys(words, "holds")
        decided = verdicts.get(part)
        if section == "findings":
            before = kept(history, part, rules) if edges else []
            for agent, word in words.items():
                shown = "null" if word.value == SILENT else text(word.value)
                for target, key, by, at in edges:
                    if target != name or (key, by) == (name, agent):
                        continue
                    if decided is not None and at < decided.log:
                        continue  # who has decided knew of it
                    if word.keys and word.since >= at:
                        continue
                    # A later value is news, unless somebody had said it before.
                    if at >= word.log or any(one == shown and log < at for one, log in before):
                        standing[agent] = "superseded"
            holding = {agent: words[agent] for agent in words if standing[agent] == "holds"}
            if holding or (decided is not None and not words):
                seen_as = compared(part, holding, decided, rules)
            else:
                seen_as = Seen("superseded" if words else "withdrawn", None, {})
        elif section == "items":
            seen_as = Seen("agreed" if words else "withdrawn", None, {})
        else:
            seen_as = _place(name, words, decided, rules)
        standing.update(seen_as.standing)
        camped[part] = seen_as
        parts[part] = {
            "state": seen_as.state,
            "value": whole(seen_as.value),
            "says": {
                agent: ("null" if word[0] == SILENT else text(word[0]), standing[agent])
                for agent, word in words.items()
            },
        }
    return parts


def _place(name: str, words: dict[str, Word], verdict: Event | None, rules: Rules) -> Seen:
    if not words:
        return Seen("withdrawn", None, {})
    given = [words[agent][0] for agent in sorted(words)]
    named = {reducer_of(name, value, rules) for value in given}
    if named == {"agree", "sum"}:
        named = {"sum"}
    reducer = named.pop() if len(named) == 1 else "by_source"
    if reducer in ("list", "rows"):
        if not all(isinstance(value, list) for value in given):
            return Seen("by_source", None, {})
        merge = merge_of(name, rules)
        if reducer == "rows" and merge is not None and merge.key:
            lists = {agent: word[0] for agent, word in words.items()}
            return Seen("reduced", table(lists, merge.key), {})
        return Seen("reduced", joined(given), {})
    if reducer == "agree":
        return compared(f"document:{name}", words, verdict, rules)
    if reducer in ("last", "union", "append"):
        return Seen("reduced", max(words.values(), key=lambda word: word.log).value, {})
    if reducer == "by_source":
        return Seen("by_source", None, {})
    return Seen(*reduced(reducer, given), {})


def seen(document: dict[str, Any]) -> Parts:
    """Return of a document what `judged` says of a history."""
    parts: Parts = {}
    for section in ("findings", "document", "items"):
        for name, record in document[section].items():
            says = {}
            for agent, statements in record.get("said", {}).items():
                for one in statements:
                    standing = one.get("standing", "holds")
                    if standing in ("holds", "superseded", "rejected", "overruled"):
                        value = one.get("value", record.get("value"))
                        says[agent] = (text(value), standing)
                        break
            parts[f"{section}:{name}"] = {
                "state": record["state"],
                "value": None if section == "items" else record.get("value"),
                "says": says,
            }
    return parts
