"""Merges the statements about a part: which value holds, and the standing of each statement.

Each part that a batch touches is merged once. The outcome follows from the kept statements, the
edges that lead to the part, and the last decision, never from the order in which they arrived.

Supersession. A finding that names a key in `supersedes` makes an edge to that key; it makes no
difference whether the edge or the finding it leads to comes first. A finding that itself supersedes
something yields only to a later one. So of two findings that supersede each other the later one
holds, and a ring of them always leaves one.

Reducers. At a place of a document, a reducer makes one value of those that several agents give.
Maps are merged member by member, so a reducer sees numbers, texts and lists. It gets the values in
the order of the agents' names and must not depend on that order. A rule file names a reducer for a
path (docs/rules.md); packages add reducers under the entry point `fabric.reducers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from fabric.core import resource
from fabric.core.contradiction import FINDINGS
from fabric.core.policy import Comparison, ContradictionPolicy, RestartPolicy
from fabric.core.rule_table import Merge, Same
from fabric.core.rules import Rules
from fabric.core.synthesis import delta, typed
from fabric.core.synthesis.canonical import canonical
from fabric.core.synthesis.compare import EXACTLY, Agreement
from fabric.core.synthesis.delta import TOTAL, is_number, join_lists, join_rows, total_of
from fabric.core.synthesis.dispute import chosen_fields, settle
from fabric.core.synthesis.state import (
    Edge,
    Part,
    Standing,
    State,
    Statement,
    current,
    superseding,
)

#: Takes values, at least one; returns one, which must be JSON.
Reducer = Callable[[Sequence[Any]], Any]

#: Names the reducer of a place, given its JSON Pointer and one of its values.
Strategy = Callable[[str, Any], str]

#: Every agent's value is kept beside the others', under the agent's name.
BY_SOURCE: Final = "by_source"
#: Two values that differ are a contradiction, as between findings.
AGREE: Final = "agree"
#: The last value in the log holds.
LAST: Final = "last"
#: The items of all lists, each once, no matter how many agents give it.
UNION: Final = "union"
#: The items of all lists, each as often as it is given.
APPEND: Final = "append"
#: The sum of all numbers.
SUM: Final = "sum"
#: Each agent's list in its own order; what several agents give is there once.
LIST: Final = "list"
#: Lists of maps, as tables: rows with the same key are one row.
ROWS: Final = "rows"
#: No reducer: a delta, which changes what its agent has said (`delta.py`).
DELTA: Final = "delta"
#: No reducer: a map is merged member by member, whatever the names of its members.
MAP: Final = "map"

#: These keep each item of a list as a part of its own, so that a long list is never rewritten.
OF_ITEMS: Final = frozenset({UNION, APPEND})
#: These need more than the values.
SPECIAL: Final = frozenset({BY_SOURCE, AGREE, LAST, UNION, APPEND, LIST, ROWS})

#: Versions of what holds where no rule does. A session goes on by the version that it began with.
#: In the first one numbers are added up, lists are united item by item, and there are no deltas.
#: In the second one two values are the same only if they are the same JSON, a later value does not
#: reopen what was superseded, and nothing is inherited.
ADDED_UP: Final = 1
EXACT: Final = 2
CURRENT: Final = 3

#: Places whose reducer is remembered. Emptied when full.
_REMEMBERED_MAX = 50_000

#: Characters of a reducer's error that are kept.
ERROR_CHARS_MAX = 200

_decode = msgspec.json.Decoder().decode


def merge_finding(
    part: Part, key: str, agree: Callable[[], Agreement] = Agreement, *, inherits: bool = True
) -> None:
    """Find the value of a finding that holds, and the standing of every statement.

    `agree` is asked for the rules of its place only where they make a difference. A session that
    does not `inherit` began before they did: there a later value is superseded too.
    """
    holding: dict[str, Statement] = {}
    statements = current(part)
    against = part.superseded_by
    if part.verdict is not None:
        # The person who decided knew the earlier findings.
        against = [edge for edge in against if edge.log > part.verdict.log]
    yields = _yields if inherits else _yields_always
    for agent, statement in statements.items():
        if any(yields(part, agent, statement, key, edge) for edge in against):
            statement.standing = Standing.SUPERSEDED
        else:
            statement.standing = Standing.HOLDS
            holding[agent] = statement
    part.value, part.policy, part.sides, part.contradict_on = UNSET, "", [], []
    is_superseded = bool(statements) and not holding
    is_decided = part.verdict is not None and bool(part.said) and not is_superseded
    if is_decided or (len(holding) > 1 and _differ(holding.values())):
        settle(part, holding, agree())
    elif holding:
        part.state, part.value = State.AGREED, next(iter(holding.values())).value
    else:
        part.state = State.SUPERSEDED if is_superseded else State.WITHDRAWN
    part.fields = _merged_fields(holding) if len(holding) > 1 else UNSET
    if part.verdict is not None and (chosen := chosen_fields(part, agree())):
        held = (one for one in holding.values() if one.standing is Standing.HOLDS)
        fields = [part.fields, *(one.fields for one in held)]
        part.fields = {**next((one for one in fields if isinstance(one, dict)), {}), **chosen}


def _differ(statements: Iterable[Statement]) -> bool:
    """Whether statements differ in a value, or may differ in a field."""
    values = {bytes(one.value) for one in statements if isinstance(one.value, Raw)}
    return len(values) > 1 or any(one.fields is not UNSET for one in statements)


def _merged_fields(holding: Mapping[str, Statement]) -> dict[str, Any] | UnsetType:
    """Return the fields of a typed finding; none where they are those of each statement."""
    said = [
        (agent, typed.confidence_of(one.confidence), one.fields)
        for agent, one in holding.items()
        if isinstance(one.fields, dict) and one.standing is Standing.HOLDS
    ]
    if len(said) < 2:
        return UNSET
    merged: dict[str, Any] = typed.merge(said)
    return UNSET if all(fields == merged for _, _, fields in said) else merged


def place_values(part: Part) -> dict[str, Any]:
    """Return each agent's value at a place of a document; null withdraws a value."""
    found = {}
    for agent, statement in current(part).items():
        assert isinstance(statement.value, Raw)
        value = _decode(statement.value)
        if value is None:
            statement.standing = Standing.WITHDRAWN
        else:
            found[agent] = value
    return found


def merge_place(
    part: Part,
    given: Mapping[str, Any],
    name: str,
    reducers: Mapping[str, Reducer],
    key: str = "",
    agree: Callable[[], Agreement] = Agreement,
) -> None:
    """Make one value of those that agents give at a place, with the reducer of this name.

    `key` is the column by which a table's rows are told apart; `agree` says when two values are
    one.
    """
    part.value, part.error, part.reducer, part.key = UNSET, "", name, key
    if name == AGREE:
        merge_finding(part, "", agree)
    elif not given:
        part.state = State.WITHDRAWN
    elif name == LAST:
        part.state = State.REDUCED
        part.value = max(current(part).values(), key=lambda statement: statement.log).value
    elif name == BY_SOURCE:
        part.state = State.BY_SOURCE
    elif name in (LIST, ROWS):
        joined = join(name, given, key)
        part.state = State.BY_SOURCE if joined is None else State.REDUCED
        part.value = UNSET if joined is None else Raw(canonical(joined))
    else:
        _reduce(part, [total_of(value) for value in given.values()], name, reducers)


def join(name: str, given: Mapping[str, Any], key: str) -> list[Any] | None:
    """Return one list of those that agents give; None if one of them gives no list."""
    if not all(isinstance(value, list) for value in given.values()):
        return None
    return join_rows(given, key) if name == ROWS and key else join_lists(given)


def merge_deltas(part: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Return one value of what agents say at a place that has deltas, as documents show it.

    `part` has the `reducer` and the `key` of the place. Numbers are added up unless a rule says
    otherwise; what cannot become one value is kept by source.
    """
    name, values = part.get("reducer", ""), list(given.values())
    if not values:
        return delta.NOTHING
    joined = join(name, given, part.get("key", ""))
    if joined is not None:
        return joined
    if all(map(is_number, values)):
        return NUMBERS.get(name, _sum)(values)
    return dict(given)


def merge_item(part: Part) -> None:
    """Find out whether an item of a list, or a delta, is there: it is while an agent says so."""
    if part.value is UNSET:
        # None if agents have only taken it from their lists, and none has given it.
        given = (one for said in part.said.values() for one in said if not one.withdrawn)
        part.value = next((one.value for one in given), UNSET)
    part.state = State.AGREED if current(part) else State.WITHDRAWN


def _yields(part: Part, agent: str, statement: Statement, key: str, edge: Edge) -> bool:
    """Whether a finding gives way to one that supersedes its key.

    A value that is later than the supersession does not: it is news. One that somebody had said
    before is no news, unless its agent has superseded something in turn since.
    """
    if edge.key == key and edge.agent == agent:
        return False
    own = superseding(part.said[agent], statement)
    if own is not None and own.supersedes and own.log >= edge.log:
        return False
    if edge.log >= statement.log:
        return True
    return any(
        one.value == statement.value and one.log < edge.log and not one.withdrawn
        for said in part.said.values()
        for one in said
    )


def _yields_always(part: Part, agent: str, statement: Statement, key: str, edge: Edge) -> bool:
    """As in sessions that began earlier: a finding that supersedes none gives way to any edge."""
    if edge.key == key and edge.agent == agent:
        return False
    return not statement.supersedes or edge.log > statement.log


def _reduce(part: Part, given: Sequence[Any], name: str, reducers: Mapping[str, Reducer]) -> None:
    numbers = NUMBERS.get(name)
    if numbers is not None and not all(map(is_number, given)):
        part.state = State.BY_SOURCE
        return
    reduce = numbers or reducers.get(name)
    if reduce is None:
        part.state, part.error = State.FAILED, f"no reducer {name} is installed here"
        return
    try:
        part.value = Raw(canonical(reduce(given)))
        part.state = State.REDUCED
    except Exception as error:  # a reducer may be anybody's code: its failure must stop nothing
        part.state = State.FAILED
        part.error = f"{name} failed: {type(error).__name__}: {error}"[:ERROR_CHARS_MAX]


class MergeRules(Struct, frozen=True):
    """What decides how a session's results are merged. The session keeps those it began with."""

    version: int
    restarts: RestartPolicy
    merges: tuple[Merge, ...] = ()
    contradict_on: tuple[str, ...] = ()
    same: tuple[Same, ...] = ()

    @classmethod
    def of(cls, rules: Rules, version: int = CURRENT) -> MergeRules:
        """Return what the rules in force say."""
        return cls(version, rules.restart_policy, rules.merges, rules.contradict_on, rules.same)


class Strategies:
    """The reducer of each place: by the rules, or else by the kind of value."""

    def __init__(
        self,
        merges: Iterable[Merge] = (),
        version: int = CURRENT,
        contradict_on: tuple[str, ...] = (),
    ) -> None:
        self._merges = [(resource.read_glob(merge.path), merge) for merge in merges]
        self._remembered: dict[str, Merge | None] = {}
        self._is_current = version > ADDED_UP
        self._contradict_on = contradict_on
        #: Whether an agent's statements inherit what its earlier ones supersede.
        self.inherits = version > EXACT

    @classmethod
    def by(cls, rules: MergeRules) -> Strategies:
        """Return the strategies of a session that is merged by these rules."""
        return cls(rules.merges, rules.version, rules.contradict_on)

    def of(self, pointer: str, value: Any) -> str:
        """Return the name of a place's reducer, given one of its values; DELTA for a delta.

        Raises ValueError if the value is a delta that cannot be.
        """
        operators: list[tuple[str, Any]] = []
        if isinstance(value, dict) and value:
            if not self._is_current:
                return MAP
            operators = delta.operators(value)
            if operators and operators[0][0] != TOTAL:
                return DELTA
        if self._merges and (named := self._named(pointer)) is not None:
            return named.reducer or AGREE
        if self._is_current:
            if operators:
                return SUM
            if isinstance(value, list):
                return LIST
            return AGREE if is_number(value) else BY_SOURCE
        if isinstance(value, list):
            return UNION
        return SUM if is_number(value) else BY_SOURCE

    def key(self, pointer: str) -> str:
        """Return the column by which a table's rows are told apart; "" if no rule names one."""
        named = self._named(pointer) if self._merges else None
        return named.key if named is not None else ""

    def agreement(self, section: str, name: str) -> Agreement:
        """Return when two values of a part are the same, and what follows if they are not."""
        if not self.inherits:
            return EXACTLY
        is_finding = section == FINDINGS
        token = name.replace("~", "~0").replace("/", "~1") if is_finding else ""
        pointer = f"/{section}/{token}" if is_finding else name
        named = self._named(pointer) if self._merges else None
        on = self._contradict_on if is_finding else ()
        compare, tolerance, policy = Comparison.DEFAULT, 0.0, ContradictionPolicy.ASK
        if named is not None:
            compare, tolerance, policy = named.compare, named.tolerance, named.policy
        return Agreement(compare, tolerance, policy, on)

    def _named(self, pointer: str) -> Merge | None:
        try:
            return self._remembered[pointer]
        except KeyError:
            pass
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        tokens = pointer.split("/")
        named = next((merge for path, merge in self._merges if path.accepts(tokens)), None)
        self._remembered[pointer] = named
        return named


def _sum(values: Sequence[Any]) -> Any:
    total = _exact_sum(values)
    if all(isinstance(value, int) for value in values):
        return delta.number(total)
    return delta.rounded(total)


def _mean(values: Sequence[Any]) -> float:
    return delta.rounded(_exact_sum(values) / len(values))


def _exact_sum(values: Sequence[Any]) -> Fraction:
    """Add without rounding, so that the order of the values leaves no trace."""
    return sum(map(Fraction, values), Fraction())


#: Reducers of numbers. If one of the values is no number, all of them are kept by source.
NUMBERS: Final[Mapping[str, Reducer]] = {"sum": _sum, "mean": _mean, "max": max, "min": min}

#: Names that a rule file may use without anything being installed.
KNOWN: Final = frozenset(NUMBERS) | SPECIAL
