"""Which findings are one: the same thing at one place, found by several agents.

A pure function of the findings, so neither the order of results nor of revisions matters. Findings
are one if they are about one path, one topic and lines at most LINES_APART apart, and no agent
gives two of them: what one agent lists twice, it means twice. A topic is the rule, in whatever
spelling, or another name of it (ALIASES); without a rule, a name found in the title or message.
Findings whose topic is not known are one only if they are about the same line and share most of
their words. `same_as` of a finding joins keys, `distinct_from` keeps them apart. A group has the
name of its least key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from fabric.core.synthesis import typed
from fabric.core.synthesis.state import Standing
from fabric.wire.document import Finding

#: Agents that read the same code name lines so far apart: the call or its first argument.
LINES_APART: Final = 3

#: Share of the fewer words that two messages must have in common.
WORDS_SHARED_MIN: Final = 0.5

#: Findings before a finding that it is compared with by words.
COMPARED_MAX: Final = 50

#: Words of a title and message that are looked at: what it is about stands at the beginning.
WORDS_MAX: Final = 200

#: Names of one thing, as people, agents and analysers call it.
ALIASES: Final = (
    "sql injection|sqli|cwe 89|s608|b608|hardcoded sql expression",
    "cross site scripting|xss|cwe 79|reflected xss|stored xss",
    "command injection|shell injection|os command injection|cwe 78|s602|s605|b602|b605|"
    "subprocess shell true|shell true",
    "path traversal|directory traversal|cwe 22|zip slip",
    "server side request forgery|ssrf|cwe 918",
    "cross site request forgery|csrf|cwe 352",
    "xml external entity|xxe|cwe 611",
    "insecure deserialization|unsafe deserialization|cwe 502|pickle load|s301|b301",
    "hardcoded password|hardcoded secret|hardcoded credential|hardcoded credentials|cwe 798|"
    "s105|s106|b105|b106|secret in code",
    "weak hash|insecure hash|weak cryptography|cwe 327|cwe 328|s324|b303|b324|md5",
    "insecure randomness|weak random|cwe 330|s311|b311",
    "eval used|eval|code injection|cwe 94|cwe 95|s307|b307|exec used",
    "unused import|f401|w0611|unused imports",
    "unused variable|f841|w0612|unused local variable|unused local",
    "undefined name|f821|e0602|undefined variable",
    "redefined while unused|f811|redefinition|w0404",
    "line too long|e501|c0301|long line",
    "bare except|e722|w0702|blind except|broad except|w0718|ble001|except pass|s110|b110",
    "mutable default argument|b006|w0102|mutable default|dangerous default value",
    "missing docstring|undocumented|d100|d101|d102|d103|c0114|c0115|c0116",
    "assert used|s101|b101",
    "too complex|c901|high complexity|cyclomatic complexity|r0912|complex function",
    "race condition|data race|cwe 362|toctou|check then act",
    "resource leak|unclosed file|sim115|r1732|cwe 772|file not closed|leaked file handle",
    "null dereference|none dereference|null pointer|cwe 476|possible none",
    "division by zero|divide by zero|cwe 369|zero division",
    "off by one|cwe 193|fencepost",
    "missing timeout|no timeout|s113|request without timeout",
    "certificate validation disabled|verify false|cwe 295|s501|b501|tls verification disabled",
    "debug enabled|flask debug true|b201|s201|debug mode",
    "open redirect|cwe 601|unvalidated redirect",
    "n plus one|n 1 query|n plus 1 query|query in loop",
    "dead code|unreachable code|unreachable|w0101",
    "missing type annotation|untyped|ann001|ann201|no untyped def",
    "yaml load|unsafe yaml|s506|b506",
    "temp file race|insecure temp file|s306|b306|mktemp",
    "missing authorization|broken access control|cwe 862|cwe 285|missing auth|idor",
    "log injection|cwe 117|log forging",
    "regex denial of service|redos|cwe 1333|catastrophic backtracking",
    "infinite loop|endless loop|cwe 835",
    "memory leak|cwe 401",
    "integer overflow|cwe 190",
    "buffer overflow|cwe 120|cwe 787|out of bounds write",
    "deprecated api|deprecated|deprecated function|up035|w4901",
)

_TOKENS = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TOPIC_OF: Final = {name: names.partition("|")[0] for names in ALIASES for name in names.split("|")}
_JOINED: Final = {name.replace(" ", ""): topic for name, topic in _TOPIC_OF.items()}
_NAME_WORDS_MAX: Final = max(name.count(" ") + 1 for name in _TOPIC_OF)

#: Words that say nothing of what a message is about.
_EMPTY: Final = frozenset(
    _TOKENS.findall(
        "a an the is are be was in on at of to for from by with without and or not no it its this "
        "that can may could should will would which here there has have use used uses using line "
        "code"
    )
)


class Site(NamedTuple):
    """Where a finding is, what it is about, and by which agents."""

    start: int
    end: int
    key: str
    agents: frozenset[str]
    words: frozenset[str]


def groups(findings: Iterable[Finding]) -> dict[str, tuple[str, ...]]:
    """Return the keys of each group of two or more findings that hold, by its least key."""
    buckets: dict[tuple[str, str], list[Site]] = {}
    keys: dict[str, Finding] = {}
    for one in findings:
        keys[one.key] = one
        found = _site(one)
        if found is not None:
            buckets.setdefault(found[0], []).append(found[1])
    apart = {
        frozenset((key, other))
        for key, one in keys.items()
        for other in one.fields.get("distinct_from", ())
    }
    joined: list[list[str]] = []
    for (_, topic), sites in buckets.items():
        joined += [[one.key for one in made] for made in _near(sites, topic, apart)]
    return _named(joined, keys, apart)


def topic_of(rule: str, text: str) -> str:
    """Return what a finding is about: one name for all spellings; "" if that is not known."""
    tokens = _words(rule)
    if tokens:
        joined = "".join(tokens)
        if joined in _JOINED:
            return _JOINED[joined]
        # `python:S608` and `bandit.B608`: the name of the tool goes before.
        return _TOPIC_OF.get(tokens[-1]) or _phrase(tokens) or joined
    return _phrase(_words(text))


def _phrase(tokens: list[str]) -> str:
    """Return the topic whose longest name stands in a text."""
    for size in range(_NAME_WORDS_MAX, 0, -1):
        for start in range(len(tokens) - size + 1):
            topic = _TOPIC_OF.get(" ".join(tokens[start : start + size]))
            if topic is not None:
                return topic
    return ""


def _words(text: str) -> list[str]:
    found = _TOKENS.finditer(_CAMEL.sub(" ", text))
    return [one[0].lower() for one in islice(found, WORDS_MAX)]


def _site(one: Finding) -> tuple[tuple[str, str], Site] | None:
    fields = one.fields
    named = typed.place_in(one.key)
    path, line, rule = named if named is not None else ("", 0, "")
    path = str(fields.get("path", path))
    if not path:
        return None
    line = int(fields.get("line", line))
    rule = str(fields.get("rule", rule))
    if rule.startswith("#"):
        rule = ""  # a key's digest of a message
    value = one.value if isinstance(one.value, str) else ""
    text = " ".join(str(fields.get(name, "")) for name in ("title", "message")) + f" {value}"
    agents = frozenset(one.agent for one in one.sources if one.standing is Standing.HOLDS)
    words = frozenset(_words(text)) - _EMPTY
    end = max(line, int(fields.get("end_line", line)))
    return (path, topic_of(rule, text)), Site(line, end, one.key, agents, words)


def _near(sites: list[Site], topic: str, apart: set[frozenset[str]]) -> Iterator[list[Site]]:
    """Yield the sites of one path and topic that are one: of one line first, then of near lines."""
    exact: list[list[Site]] = []
    for site in sorted(sites, key=lambda one: (one.start, one.end, one.key)):
        here = [made for made in exact[-COMPARED_MAX:] if made[0].start == site.start]
        fitting = (one for one in here if _fits(one, site, apart) and (topic or _alike(one, site)))
        made = next(fitting, None)
        if made is not None:
            made.append(site)
        else:
            exact.append([site])
    if not topic:
        yield from exact
        return
    now: list[Site] = []
    for made in exact:
        is_near = bool(now) and made[0].start - max(one.end for one in now) <= LINES_APART
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
    joined: list[list[str]], keys: dict[str, Finding], apart: set[frozenset[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the groups by their least keys, after what findings say of each other."""
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = key = parent[parent[key]]
        return key

    links = [(made[0], other) for made in joined for other in made[1:]]
    links += [
        (key, other)
        for key in sorted(keys)
        for other in sorted(keys[key].fields.get("same_as", ()))
        if other in keys and frozenset((key, other)) not in apart
    ]
    for one, other in links:
        least, most = sorted((root(one), root(other)))
        parent[most] = least
    found: dict[str, list[str]] = {}
    for key in sorted(keys):
        found.setdefault(root(key), []).append(key)
    return {name: tuple(made) for name, made in found.items() if len(made) > 1}
