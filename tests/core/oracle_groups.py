"""Which findings may be one, and which must be: what the docs say, pair by pair."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fabric.core.rule_table import Same
from fabric.wire.document import findings
from fabric.wire.same import groups_of
from tests.core.findings import Event, Rules

#: What the histories say of rules.
TOPICS = {"sqli": "sql", "SQL-injection": "sql", "xss": "xss"}
HELD = ("agreed", "contradicted", "decided")


class Known(NamedTuple):
    """A finding that holds: what it may share with others, and by which agents it is said."""

    key: str
    path: str
    line: int
    end: int
    topic: str
    owner: str
    agents: frozenset[str]
    same: frozenset[str]
    distinct: frozenset[str]

    def shared(self, rule: Same) -> tuple[str, ...] | None:
        of = {"path": self.path, "rule": self.topic, "data.owner": self.owner}
        found = tuple(of[name] for name in rule.by)
        return found if all(found) else None


def clean(path: str) -> str:
    return path.removeprefix("./").removesuffix("/").replace("//", "/")


def related(
    history: list[Event],
) -> tuple[list[tuple[int, str, str]], dict[frozenset[str], bool]]:
    """Return the renames (log, from, to) in their order, and whether pairs are distinct."""
    renamed: dict[str, tuple[int, str, str]] = {}
    pairs: dict[frozenset[str], bool] = {}
    for event in sorted(history, key=lambda event: event.log):
        said = event.relation or {}
        if event.kind == "RENAMED" and clean(said["from"]) != clean(said["to"]):
            renamed[clean(said["from"])] = (event.log, clean(said["from"]), clean(said["to"]))
        for other in said.get("keys", [])[1:] if event.kind == "SAME_AS" else ():
            if other != said["keys"][0]:
                pair = frozenset((said["keys"][0], other))
                pairs.pop(pair, None)
                pairs[pair] = said["distinct"]
    return sorted(renamed.values()), pairs


def known(document: dict[str, Any]) -> dict[str, Known]:
    """Return what holds. The histories' keys of places have path, line and rule in their fields."""
    found = {}
    for key, one in findings(document).items():
        if one.state.value not in HELD:
            continue
        fields = one.fields
        line = int(fields.get("line", 0))
        words = f"{fields.get('message', '')} {one.value if isinstance(one.value, str) else ''}"
        assert not any(topic in words for topic in TOPICS)
        found[key] = Known(
            key,
            str(fields.get("path", "")),
            line,
            max(line, int(fields.get("end_line", line))),
            TOPICS.get(str(fields.get("rule")), ""),
            str(fields.get("data", {}).get("owner", "")),
            frozenset(said.agent for said in one.sources if said.standing == "holds"),
            frozenset(fields.get("same_as", ())),
            frozenset(fields.get("distinct_from", ())),
        )
    return found


def check(document: dict[str, Any], history: list[Event], rules: Rules) -> None:
    """Judge the groups of a document."""
    held, groups, same = known(document), groups_of(document), rules.same or (Same(),)
    group_of = {key: name for name, keys in groups.items() for key in keys}
    assert len(group_of) == sum(map(len, groups.values()))
    assert all(name == min(keys) and len(keys) > 1 for name, keys in groups.items())
    assert group_of.keys() <= held.keys()
    renamed, said = related(history)

    def now(key: str) -> str:
        path, mark, rest = key.partition(":")
        for _, old, new in renamed if key not in everything else ():
            path = new + path.removeprefix(old) if f"{path}/".startswith(f"{old}/") else path
        return path + mark + rest

    everything = findings(document)
    pairs: dict[frozenset[str], bool] = {}
    for pair, off in said.items():  # in the order of their latest words
        if len(moved_pair := frozenset(map(now, pair))) == 2:
            pairs[moved_pair] = off
    for one in held.values():
        moved = one.path
        for _, old, new in renamed:
            if moved == old or moved.startswith(f"{old}/"):
                moved = new + moved.removeprefix(old)
        assert moved == one.path or any(old == new for _, old, new in renamed) or renamed
    apart = {frozenset((one.key, other)) for one in held.values() for other in one.distinct}
    apart = {pair for pair in apart if pair not in pairs} | {p for p, off in pairs.items() if off}
    for pair in apart:
        names = {group_of.get(key, key) for key in pair}
        assert len(names) == len(pair), "kept apart, and in one group"
    told = {frozenset((one.key, other)) for one in held.values() for other in one.same}
    told = {p for p in told if p <= held.keys() and p not in pairs} | {
        p for p, off in pairs.items() if not off and p <= held.keys()
    }
    if not apart:
        assert all(len({group_of.get(key, key) for key in pair}) == 1 for pair in told)
    for name, keys in groups.items():
        joined_by_rules = not any(pair <= {*keys} for pair in told)
        if joined_by_rules and len(same) == 1:
            assert_near([held[key] for key in keys], same[0], name)
    for rule in same:
        assert_joined([*held.values()], rule, group_of, apart)


def assert_near(members: list[Known], rule: Same, name: str) -> None:
    """A group shares what the rule asks, has no gap between its lines, and no agent twice."""
    agents = [agent for one in members for agent in one.agents]
    assert len(agents) == len({*agents}), f"an agent gives two of {name}"
    if any(not one.topic for one in members) and "rule" in rule.by:
        assert len({(one.path, one.line) for one in members}) == 1
        return
    assert len({one.shared(rule) for one in members}) == 1
    if rule.counts_lines:
        reached = min(one.line for one in members)
        for one in sorted(members, key=lambda one: (one.line, one.end)):
            assert one.line - reached <= rule.lines
            reached = max(reached, one.end)


def assert_joined(
    held: list[Known], rule: Same, group_of: dict[str, str], apart: Iterable[frozenset[str]]
) -> None:
    """Two findings that share what a rule asks are one, if there is no third to choose from."""
    for one in held:
        alike = [other for other in held if other.shared(rule) == one.shared(rule) is not None]
        if len(alike) != 2 or any({*pair} & {two.key for two in alike} for pair in apart):
            continue
        first, second = sorted(alike, key=lambda two: (two.line, two.end))
        is_near = not rule.counts_lines or (
            second.line - first.end <= rule.lines and bool(first.line) == bool(second.line)
        )
        if is_near and not first.agents & second.agents:
            assert group_of.get(first.key) == group_of.get(second.key) is not None
