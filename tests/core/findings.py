"""Hypothesis strategies for plausible histories of results, in which everything possible happens.

A history is what the orchestrator writes to the results stream of one session, in its order. What
is folded is any permutation of it, in batches of any size, with some of it twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from fabric.core.policy import Comparison, ContradictionPolicy, RestartPolicy
from fabric.core.rule_table import Merge, Same
from fabric.core.synthesis.merge import Reducer
from tests.support.folding import entry, mark

AGENTS = ["ARCHITECT", "BUILDER", "CRITIC", "DOCTOR"]

#: Keys of findings; the first ones are most likely to repeat.
KEYS = ["port", "port", "host", "host", "a/b", "~ =:é"]

#: Values of findings: few, so that agents agree at times; 1.0 is 1, and members have no order.
VALUES: list[Any] = [1, 1.0, "1", True, None, {"a": 1, "b": [2.0]}, {"b": [2], "a": 1.0}, []]

#: Values that are the same as others by some comparisons, and not by others.
SPELLINGS: list[Any] = [
    " 1 ", "1.2", 1.2, "True", "in words", "In  words ", "in others", [1, "x"], ["X", 1.0],
    ["x", 1, 1], "1 s", "1000 ms", "1.1 s", "word",
    {"a": 1, "b": "in words"}, {"a": 1.0, "b": "in others", "c": ["so to say"]}, ["in words", 1],
]  # fmt: skip

#: Names of members, with characters that are special in a pointer or in a part's name.
MEMBERS = ["m", "m", "m", "n", "n", "a/b", "~1", "=", "", "nul\0", " ", "é:", "m/n"]

#: Values of a place, other than maps.
LEAVES: list[Any] = [None, None, 0, 1, 1.0, -2.5, 0.1, 10**18, 1e300, True, "", "text", {}]

#: Deltas and totals; and a map that only looks like one.
DELTAS: list[Any] = [
    {"$add": 1}, {"$add": 0.5}, {"$add": -3}, {"$total": 12}, {"$total": 1.5}, {"$text": "ab"},
    {"$append": [1, "x"]}, {"$append": [{"x": 1, "y": 2}]}, {"$remove": [1.0]}, {"$remove": ["x"]},
    {"$append": [True], "$remove": ["x", {"x": [1]}]}, {"$add": 1, "m": 2}, {"$else": 1},
]  # fmt: skip

#: Items of lists: some are long, some are equal.
ITEMS: list[Any] = [
    1, 1.0, True, "1", "x", "a=b", "~2", None, {"x": [1]}, {"x": [1.0], "y": 2}, {"x": 1, "y": 3},
    ["y"], "long" * 100, "",
]  # fmt: skip

#: Members that hold only lists: a list and a map do not replace each other.
LISTS = ["list", "l=~2"]

#: Reducers: the built-in ones, and installed ones that work or fail.
NAMES = [
    "sum",
    "mean",
    "max",
    "min",
    "agree",
    "last",
    "union",
    "append",
    "by_source",
    "list",
    "rows",
]
PATHS = ["/n", "/m/*", "/*", "/list", "/m/list", "/*/*"]

#: Rules that only say when values are the same, and what follows if they are not.
AGREED_PATHS = ["/findings/*", "/findings/*", "/findings/port", "/findings/a~1b", "/m/n", "/*"]


def count(values: Sequence[Any]) -> Any:
    """A user's reducer."""
    return len(values)


def fail(values: Sequence[Any]) -> Any:
    """A user's reducer with a defect."""
    raise LookupError("nothing to look up")


def chatter(values: Sequence[Any]) -> Any:
    """A user's reducer whose result is not JSON."""
    return {object()}


REDUCERS: dict[str, Reducer] = {"count": count, "fail": fail, "chatter": chatter}


class Event(NamedTuple):
    """One entry of the results stream. `verdict` is a part, the value chosen, and the others."""

    agent: str
    log: int
    kind: str
    incarnation: int = 1
    partial: Any = None
    result: Any = None
    percent: float | None = None
    silent: bool = False
    error: str = ""
    verdict: tuple[str, Any, list[Any]] | None = None
    refined: tuple[str, Any] | None = None
    is_whole: bool = False
    #: Log number of the agent's last checkpoint; of a STARTED, of the one that it resumes from.
    since: int = 0
    relation: dict[str, Any] | None = None

    def fields(self) -> list[bytes]:
        """Return the entry as the orchestrator writes it."""
        return entry(
            self.agent,
            self.log,
            kind=self.kind,
            incarnation=self.incarnation,
            percent=self.percent,
            payload=self._payload(),
            silent=self.silent,
            since=self.since,
        )

    def _payload(self) -> dict[str, Any]:
        if self.verdict is not None:
            part, chosen, others = self.verdict
            return {
                "part": part,
                "decision": "ARCHITECT",
                "by": "a person",
                "chosen": mark(chosen),
                "rejected": [mark(value) for value in others],
                "value": chosen,
                "others": others,
            }
        if self.refined is not None:
            refiner, value = self.refined
            return {"refiner": refiner, "value": value, "revision": 1}
        if self.relation is not None:
            return self.relation
        payload = {"partial": self.partial, "result": self.result, "error": self.error or None}
        payload = {name: value for name, value in payload.items() if value is not None}
        return payload | ({"all": True} if self.is_whole else {})


class Rules(NamedTuple):
    """The rules by which a history is folded."""

    policy: RestartPolicy
    merges: list[Merge]
    contradict_on: tuple[str, ...] = ()
    same: tuple[Same, ...] = ()


#: Fields of typed findings; some do not fit, and one is nobody's.
_typed = st.fixed_dictionaries(
    {},
    optional={
        "path": st.sampled_from(["a.py", "a.py", "./src//b.py"]),
        "line": st.sampled_from([1, 1.0, "2", "many", -1]),
        "rule": st.sampled_from(["sqli", "SQL-injection", "xss"]),
        "same_as": st.sampled_from(["port", ["a/b", "a.py:1:xss"], "src/b.py"]),
        "distinct_from": st.sampled_from(["host", ["a.py:1:sqli"]]),
        "severity": st.sampled_from(["high", "HIGH", "warning", "info", "ghastly", 5]),
        "message": st.sampled_from(["bad", "worse"]),
        "data": st.sampled_from([{"x": 1.0}, {"y": {"z": []}}, "text"]),
        "owner": st.sampled_from(["ann", None]),
        "date": st.sampled_from(["2026-01-02", "3 Jan 2026", "soon"]),
    },
)


@st.composite
def _finding(draw: DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {"key": draw(st.sampled_from(KEYS))}
    if draw(st.integers(0, 2)) == 0:
        found |= draw(_typed)
        if "path" in found and draw(st.booleans()):
            del found["key"]
    if draw(st.integers(0, 5)) == 0:
        return {**found, "withdrawn": True}
    if not {"path", "rule"} & found.keys() or draw(st.booleans()):
        found["value"] = draw(st.sampled_from([*VALUES, *VALUES, *SPELLINGS]))
    if draw(st.booleans()):
        found["evidence"] = draw(st.sampled_from(["app.py:3", {"b": 1.0, "a": None}]))
        found["confidence"] = draw(st.sampled_from([0, 0.5, 1]))
    if draw(st.booleans()):
        keys = st.sampled_from(KEYS)
        found["supersedes"] = draw(keys | st.lists(keys, max_size=3))
    return found


_lists = st.lists(st.sampled_from(ITEMS), max_size=4) | st.sampled_from([*LEAVES, *DELTAS])
_inner: SearchStrategy[Any] = st.recursive(
    st.sampled_from([*LEAVES, *LEAVES, *DELTAS]),
    lambda inner: st.builds(
        lambda members, lists: {**members, **lists},
        st.dictionaries(st.sampled_from(MEMBERS), inner, min_size=1, max_size=3),
        st.dictionaries(st.sampled_from(LISTS), _lists, max_size=1),
    ),
    max_leaves=5,
)
documents = st.builds(
    lambda members, lists: {**members, **lists},
    st.dictionaries(st.sampled_from(MEMBERS), _inner, max_size=3),
    st.dictionaries(st.sampled_from(LISTS), _lists, max_size=2),
)


@st.composite
def _partial(draw: DrawFn) -> dict[str, Any]:
    what = draw(st.integers(0, 3))
    partial = draw(documents) if what else {}
    if what != 1:
        partial = {**partial, "findings": draw(st.lists(_finding(), max_size=3))}
    return partial


_results = _partial() | _lists.map(lambda value: value) | st.just({"findings": ["our own"]})
_verdicts = st.tuples(
    st.sampled_from(["findings:port", "findings:a/b", "document:/n", "document:/a~1b"]),
    st.permutations([*VALUES[:1], *VALUES[2:6], "true", "In words", {"severity": "high"}]),
    st.integers(0, 3),
)
#: What a person says of keys and paths.
_PATHS = st.sampled_from(["a.py", "src", "src/b.py", "c.py", "./lib/", "lib/b.py"])
_RELATED = st.sampled_from([*KEYS, "a.py:1:sqli", "a.py:2:SQL-injection", "src/b.py:1:xss"])
_RELATIONS: dict[str, SearchStrategy[dict[str, Any]]] = {
    "RENAMED": st.fixed_dictionaries({"from": _PATHS, "to": _PATHS}),
    "SAME_AS": st.fixed_dictionaries(
        {"keys": st.lists(_RELATED, min_size=2, max_size=3), "distinct": st.booleans()}
    ),
}

#: An agent's next action, repeated by weight.
_MOVES = (
    *["PARTIAL_RESULT"] * 6,
    *("CHECKPOINT", "CHECKPOINT", "STARTED"),
    *("PROGRESS", "STARTED", "BLOCKED", "COMPLETED", "FAILED", "silence", "DECIDED", "REFINED"),
    *("RENAMED", "SAME_AS"),
)


@st.composite
def histories(draw: DrawFn) -> list[Event]:
    """Return a history as the orchestrator writes it: log numbers rise, dead agents are silent."""
    events: list[Event] = []
    incarnations: dict[str, int] = {}
    ended: set[str] = set()
    passed: dict[str, list[int]] = {}
    for number, (agent, move) in enumerate(
        draw(st.lists(st.tuples(st.sampled_from(AGENTS), st.sampled_from(_MOVES)), max_size=14))
    ):
        log = 3 * number + 1
        if move == "DECIDED":
            part, values, others = draw(_verdicts)
            verdict = (part, values[0], values[1 : 1 + others])
            events.append(Event("a person", log, move, verdict=verdict))
            continue
        if move in _RELATIONS:
            events.append(Event("a person", log, move, relation=draw(_RELATIONS[move])))
            continue
        if move == "REFINED":
            refined = (draw(st.sampled_from(["tidy", "brief"])), draw(st.sampled_from(VALUES)))
            events.append(Event(agent, log, move, refined=refined))
            continue
        if move == "CHECKPOINT":
            # Passed by another signal; the results do not have it.
            if agent in incarnations and agent not in ended:
                passed[agent] = [*passed.get(agent, []), log][-4:]
            continue
        if agent in ended or (move == "STARTED" and agent in incarnations):
            incarnations[agent] += 1
            ended.discard(agent)
            former = passed.pop(agent, [])
            if bool(former) and draw(st.booleans()):
                at: int = draw(st.integers(0, len(former) - 1))
                passed[agent] = former[: at + 1]
                incarnation = incarnations[agent]
                events.append(Event(agent, log, "STARTED", incarnation, since=former[at]))
                continue
            move = "STARTED" if move == "STARTED" or draw(st.booleans()) else move
        incarnation = incarnations.setdefault(agent, 1)
        percent = draw(st.sampled_from([None, 0, 12.5, 25, 25.0, 99.99]))
        since = passed.get(agent, [0])[-1] if move != "STARTED" else 0
        said = Event(agent, log, move, incarnation, percent=percent, since=since)
        if move in ("PARTIAL_RESULT", "PROGRESS"):
            said = said._replace(partial=draw(_partial()))
        elif move in ("COMPLETED", "FAILED", "silence"):
            ended.add(agent)
            if move == "COMPLETED":
                said = said._replace(result=draw(_results), percent=100)
            else:
                said = said._replace(kind="FAILED", error="it broke", silent=move == "silence")
        if said.kind in ("PARTIAL_RESULT", "COMPLETED") and draw(st.integers(0, 4)) == 0:
            said = said._replace(is_whole=True)
        events.append(said)
    return events


_agreements = st.builds(
    Merge,
    st.sampled_from(AGREED_PATHS),
    compare=st.sampled_from(Comparison),
    tolerance=st.sampled_from([0, 0.25]),
    policy=st.sampled_from(ContradictionPolicy),
)
rules = st.builds(
    Rules,
    st.sampled_from(RestartPolicy),
    st.lists(
        st.builds(
            Merge,
            st.sampled_from(PATHS),
            st.sampled_from([*NAMES, *REDUCERS, "missing"]),
            st.sampled_from(["", "x"]),
        )
        | _agreements,
        max_size=3,
    ),
    st.sampled_from([(), (), ("severity",), ("message", "line")]),
    st.sampled_from([(), (), (Same(lines=0),), (Same(("rule",)), Same(("path", "data.owner"), 1))]),
)


@st.composite
def shuffled(draw: DrawFn) -> tuple[list[Event], list[list[Event]]]:
    """Return a history, and the same shuffled, with repeats, in batches of any size."""
    history = draw(histories())
    again = draw(st.lists(st.sampled_from(history), max_size=4)) if history else []
    order = draw(st.permutations([*history, *again]))
    size = draw(st.integers(1, 6))
    return history, [order[start : start + size] for start in range(0, len(order), size)]
