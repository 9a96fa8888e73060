"""Which findings are one: the same thing at one place, found by several agents.

A pure function of the document, so neither the order of results nor of revisions matters. Nothing
of it is stored: one more result may join two groups, and would have to rewrite both.

By default findings are one if they are about one path, one topic (`topic.py`) and lines at most so
far apart, and no agent gives two of them: what one agent lists twice, it means twice. Findings
whose topic is not known are one only if they are about the same line and share most of their words.
`[[synthesis.same]]` (core/rule_table.py) says otherwise: findings are one if any rule joins them.
`same_as` of a finding, or a person, joins keys; `distinct_from` keeps them apart. A group has the
name of its least key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from fabric.core.rule_table import Same
from fabric.core.synthesis import typed
from fabric.core.synthesis.relation import Pair
from fabric.core.synthesis.state import Standing
from fabric.wire import document
from fabric.wire.document import HELD, Finding
from fabric.wire.topic import Topics, telling_words

#: Share of the fewer words that two messages must have in common.
WORDS_SHARED_MIN: Final = 0.5

#: Findings before a finding that it is compared with by words.
COMPARED_MAX: Final = 50

#: How findings are joined where no rule says so.
DEFAULT: Final = (Same(),)


def groups_of(
    official: Mapping[str, Any], found: Mapping[str, Finding] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the groups of the findings that hold, given the official document.

    `found` are its findings, where the caller has them already.
    """
    found = document.findings(official) if found is None else found
    rules = msgspec.convert(official.get("same", ()), tuple[Same, ...]) or DEFAULT
    known = document.relations(official)
    held = [one for one in found.values() if one.state in HELD]
    # A pair may name keys by the paths of before; what was said last of it counts.
    pairs: dict[tuple[str, str], Pair] = {}
    for pair in sorted(known.pairs, key=lambda one: one.log):
        one, other = sorted(document.present_key(known, key, found) for key in pair.keys)
        if one != other:
            pairs[one, other] = structs.replace(pair, keys=(one, other))
    return groups(held, rules, pairs.values())


class Site(Struct, frozen=True, gc=False):
    """Where a finding is, what it is about, and by which agents."""

    start: int
    end: int
    key: str
    agents: frozenset[str]
    words: frozenset[str]


def groups(
    findings: Iterable[Finding],
    rules: Sequence[Same] = DEFAULT,
    pairs: Iterable[Pair] = (),
) -> dict[str, tuple[str, ...]]:
    """Return the keys of each group of two or more findings that hold, by its least key.

    `pairs` is what people say of keys: it goes before what agents say, and that before the rules.
    """
    keys = {one.key: one for one in findings}
    said = {frozenset(one.keys): one.distinct for one in pairs}
    apart = {
        pair
        for key, one in keys.items()
        for other in one.fields.get("distinct_from", ())
        if other != key and (pair := frozenset((key, other))) not in said
    }
    apart |= {pair for pair, is_distinct in said.items() if is_distinct}
    links = [sorted(pair) for pair, is_distinct in said.items() if not is_distinct]
    links += [
        [key, other]
        for key, one in sorted(keys.items())
        for other in sorted(one.fields.get("same_as", ()))
    ]
    joined = [one for one in links if keys.keys() >= {*one}]
    for rule in rules:
        topics = Topics(rule.aliases)
        buckets: dict[tuple[Any, ...], list[Site]] = {}
        crews: dict[frozenset[str], frozenset[str]] = {}
        for one in keys.values():
            found = _site(one, rule, topics, crews)
            if found is not None:
                buckets.setdefault(found[0], []).append(found[1])
        for (is_known, *_), sites in buckets.items():
            joined += [[one.key for one in made] for made in _near(sites, rule, apart, is_known)]
    return _named(joined, sorted(keys), apart)


def _site(
    one: Finding, rule: Same, topics: Topics, crews: dict[frozenset[str], frozenset[str]]
) -> tuple[tuple[Any, ...], Site] | None:
    """Return what a finding must share with others by a rule, and its site; None if it cannot.

    `crews` keeps each set of agents once: the garbage collector looks at every set that is kept.
    """
    fields: Mapping[str, Any] = one.fields
    named = typed.place_in(one.key) if "path" not in fields or "line" not in fields else None
    path, line, said = named if named is not None else ("", 0, "")
    given = {"path": path, "rule": said, "line": line, "key": one.key, **fields}
    said = "" if str(given["rule"]).startswith("#") else str(given["rule"])  # a message's digest
    value = one.value if isinstance(one.value, str) else ""
    text = " ".join(str(fields.get(name, "")) for name in ("title", "message")) + f" {value}"
    shared: list[Any] = []
    is_known = True
    for name in rule.by:
        if name == "rule":
            shared.append(topic := topics.of(said, text))
            is_known = bool(topic)
        else:
            member = name.removeprefix(f"{typed.DATA}.")
            found = given.get(name) if member == name else fields.get(typed.DATA, {}).get(member)
            if found in (None, ""):
                return None
            shared.append(str(found).strip())
    agents = frozenset(one.agent for one in one.sources if one.standing is Standing.HOLDS)
    agents = crews.setdefault(agents, agents)
    words = frozenset() if is_known else telling_words(text)
    line = int(given["line"]) if rule.counts_lines else 0
    end = max(line, int(fields.get("end_line", line))) if rule.counts_lines else 0
    return (is_known, *shared), Site(line, end, one.key, agents, words)


def _near(
    sites: list[Site], rule: Same, apart: set[frozenset[str]], is_known: bool
) -> Iterator[list[Site]]:
    """Yield the sites that are one, of those that share what a rule asks: of one line first.

    Then those of near lines, if it is known what they are about.
    """
    exact: list[list[Site]] = []
    for site in sorted(sites, key=lambda one: (one.start, one.end, one.key)):
        here = [made for made in exact[-COMPARED_MAX:] if made[0].start == site.start]
        fitting = (
            one for one in here if _fits(one, site, apart) and (is_known or _alike(one, site))
        )
        made = next(fitting, None)
        if made is not None:
            made.append(site)
        else:
            exact.append([site])
    if not is_known:
        yield from exact
        return
    now: list[Site] = []
    for made in exact:
        is_near = bool(now) and made[0].start - max(one.end for one in now) <= rule.lines
        has_line = bool(now) and bool(now[0].start) == bool(made[0].start)
        if is_near and has_line and all(_fits(now, one, apart) for one in made):
            now = [*now, *made]
        else:
            if now:
                yield now
            now = made
    if now:
        yield now


def _fits(made: list[Site], site: Site, apart: set[frozenset[str]]) -> bool:
    return all(
        one.agents.isdisjoint(site.agents) and frozenset((one.key, site.key)) not in apart
        for one in made
    )


def _alike(made: list[Site], site: Site) -> bool:
    words, own = made[0].words, site.words
    return len(words & own) >= WORDS_SHARED_MIN * max(1, min(len(words), len(own)))


def _named(
    joined: Iterable[Sequence[str]], keys: Sequence[str], apart: set[frozenset[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the groups by their least keys; what is to be kept apart is in no group together."""
    parent = {key: key for key in keys}
    #: Of groups with keys that are to be kept apart from others: their keys, and those others.
    inside: dict[str, set[str]] = {}
    outside: dict[str, set[str]] = {}
    for one, other in map(sorted, apart):
        for key, rival in ((one, other), (other, one)):
            inside[key] = {key}
            outside.setdefault(key, set()).add(rival)

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    for first, *others in joined:
        for other in others:
            least, most = sorted((root(first), root(other)))
            if least == most or not outside.get(least, set()).isdisjoint(inside.get(most, ())):
                continue
            parent[most] = least
            for kept in (inside, outside):
                small, large = sorted((kept.get(least, set()), kept.pop(most, set())), key=len)
                if large:
                    large |= small
                    kept[least] = large
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(root(key), []).append(key)
    return {name: tuple(made) for name, made in found.items() if len(made) > 1}
