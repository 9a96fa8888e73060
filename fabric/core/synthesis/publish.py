"""What a batch of results has come to: one revision, as data (seeds: "Progressive refinement").

Every part that was touched is judged once. Those that have become others make the revision: a
record each to be stored, and an operation each of a JSON Patch (RFC 6902). No document is compared
with another one: it is known which members have changed, so a revision costs what changes in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from msgspec import Raw, Struct

from fabric.core import contradiction
from fabric.core.contradiction import DOCUMENT, FINDINGS
from fabric.core.limits import LIST_ITEMS_MAX, NAME_CHARS_MAX, NAMES_SHOWN_MAX, VALUES_TOLD_MAX
from fabric.core.rules import RestartPolicy
from fabric.core.signal import ConflictDetected, Decided, Rival, SignalType, Synthesized
from fabric.core.synthesis import reducer
from fabric.core.synthesis.fold import touch
from fabric.core.synthesis.merge import judge_finding, judge_item, judge_place, values
from fabric.core.synthesis.part import Part, Standing, State, edges, gather, lead, select, words
from fabric.core.synthesis.reducer import Reducer, Strategies
from fabric.core.synthesis.state import (
    AGENTS,
    CONTRADICTIONS,
    SECTIONS,
    Before,
    Claimed,
    Contradiction,
    Contributor,
    Synthesis,
    contradiction_of,
    encode,
)

#: Fields of the hash that belong to no section.
REVISION = "revision"
COMPLETE = "complete"

#: What the synthesizer says of a contradiction that nobody had to decide.
SUPERSEDED, WITHDRAWN, AGREED = "superseded", "withdrawn", "agreed"

#: Findings in these states are counted.
_STANDING = frozenset({State.AGREED, State.CONTRADICTED, State.DECIDED})


class Operation(Struct, frozen=True):
    """One operation of a patch: the member of a section that is there now, or, as None, no more."""

    section: str
    name: str
    record: bytes | None


class Revision(Struct):
    """What is to be written of a synthesis: its fields, and what is said of them.

    `number` is 0 when nothing that anybody sees has changed; then there is no patch. `index` names
    parts that agents speak of for the first time, `sweeps` the agents whose sweep goes on.
    """

    number: int
    operations: list[Operation]
    fields: dict[str, bytes | None]
    complete: bytes
    causes: list[int]
    ms: int
    is_final: bool
    index: dict[str, list[str]]
    sweeps: list[str]
    signals: list[tuple[SignalType, ConflictDetected | Decided | Synthesized]]


class Publisher:
    """Judges what has been folded, by rules that stay the same: one for all sessions."""

    def __init__(
        self, policy: RestartPolicy, strategies: Strategies, reducers: Mapping[str, Reducer]
    ) -> None:
        self._policy = policy
        self._strategies = strategies
        self._reducers = reducers

    def publish(self, synthesis: Synthesis) -> Revision | None:
        """Return what has come of all that was folded since the last time; None for nothing.

        The synthesis is then ready for the next batch.
        """
        for name in list(synthesis.dirty):
            self._select(synthesis, name)
        revision = Revision(
            0, [], {}, b"", list(synthesis.causes), synthesis.ms, False, {}, [], []
        )  # fmt: skip
        was_final = synthesis.complete.final
        for name in sorted(synthesis.dirty):
            self._publish_part(synthesis, name, revision)
        for field in sorted(synthesis.changed - synthesis.dirty.keys()):
            _publish_record(synthesis, field, revision)
        if revision.fields:
            _complete(synthesis, revision, was_final=was_final)
        revision.index = {agent: list(names) for agent, names in synthesis.index.items()}
        revision.sweeps = list(synthesis.sweeps)
        _clear(synthesis)
        return revision if revision.fields or revision.sweeps else None

    def _select(self, synthesis: Synthesis, name: str) -> None:
        """Find out what each agent says now, and lead the edges of that to where they end."""
        part = synthesis.part(name)
        for agent in synthesis.dirty[name]:
            contributor = synthesis.records.get(f"{AGENTS}:{agent}")
            if agent in part.said and isinstance(contributor, Contributor):
                select(part, agent, partial(contributor.counts, policy=self._policy))
        if not name.startswith(FINDINGS):
            return
        key = name.partition(":")[2]
        before, after = synthesis.edges.get(name, {}), edges(part)
        for target, agent in before.keys() | after.keys():
            log = after.get((target, agent))
            if log != before.get((target, agent)):
                lead(touch(synthesis, f"{FINDINGS}:{target}"), key, agent, log)

    def _publish_part(self, synthesis: Synthesis, name: str, revision: Revision) -> None:
        part = synthesis.part(name)
        section, _, place = name.partition(":")
        if section == FINDINGS:
            judge_finding(part, place)
        elif section == DOCUMENT:
            given = values(part)
            judge_place(part, given, self._reducer(place, given), self._reducers)
        else:
            judge_item(part)
        before = synthesis.before[name]
        _follow_contradiction(synthesis, name, part, before, revision)
        if section == FINDINGS:
            synthesis.complete.findings += (part.state in _STANDING) - (before.state in _STANDING)
        gather(part)
        record = encode(part)
        if record == before.record and name not in synthesis.changed:
            return
        revision.fields[name] = record
        if part.said:
            revision.operations.append(Operation(section, place, record))

    def _reducer(self, place: str, given: Mapping[str, Any]) -> str:
        """Name the reducer of a place; values of several kinds have one only by the rules."""
        named = {self._strategies.of(place, value) for value in given.values()}
        name = named.pop() if len(named) == 1 else reducer.BY_SOURCE
        # A list that is not merged by its items is empty.
        return reducer.LAST if name in reducer.OF_ITEMS else name


def _follow_contradiction(
    synthesis: Synthesis, name: str, part: Part, before: Before, revision: Revision
) -> None:
    """Say what has become of a contradiction: it is new, or another one, or over."""
    known = before.contradiction
    is_open = part.state is State.CONTRADICTED
    if not is_open and known is None:
        return
    field = f"{CONTRADICTIONS}:{name}"
    synthesis.complete.contradictions += is_open - (known is not None)
    if is_open:
        found = contradiction_of(part)
        record = encode(found)
        if known is not None and record == encode(known):
            return
        revision.fields[field] = record
        revision.operations.append(Operation(CONTRADICTIONS, name, record))
        told = _conflict_signal(name, found)
        revision.signals.append((SignalType.CONFLICT_DETECTED, told))
        return
    revision.fields[field] = None
    revision.operations.append(Operation(CONTRADICTIONS, name, None))
    # Of a person's decision too: the question may have been asked anew meanwhile.
    by = part.verdict.by if part.state is State.DECIDED and part.verdict is not None else None
    answer = Decided(contradiction.question_of(name), _how(part), by)
    revision.signals.append((SignalType.DECIDED, answer))


def _conflict_signal(part: str, found: Contradiction) -> ConflictDetected:
    """Return what is said of a contradiction: who gives which value, as far as it can be told."""
    agents = [one.agent for claims in found.values for one in claims]
    rivals = [_rival(claims) for claims in found.values[:VALUES_TOLD_MAX]]
    subject = part.partition(":")[2][:NAME_CHARS_MAX]
    return ConflictDetected([subject], agents[:LIST_ITEMS_MAX], contradiction.FINDING, part, rivals)


def _rival(claims: list[Claimed]) -> Rival:
    first = claims[0]
    assert isinstance(first.value, Raw)
    return Rival(
        [one.agent for one in claims[:NAMES_SHOWN_MAX]],
        contradiction.digest(first.value),
        contradiction.shareable(first.value),
        first.confidence,
        contradiction.shareable(first.evidence),
    )


def _how(part: Part) -> str:
    """Say how a contradiction has ended."""
    if part.state is State.DECIDED and part.verdict is not None:
        return part.verdict.decision
    if any(word.standing is Standing.SUPERSEDED for word in words(part).values()):
        return SUPERSEDED
    return AGREED if len(words(part)) > 1 else WITHDRAWN


def _publish_record(synthesis: Synthesis, field: str, revision: Revision) -> None:
    record = synthesis.records.get(field)
    encoded = encode(record) if record is not None else None
    revision.fields[field] = encoded
    section, _, name = field.partition(":")
    if section not in SECTIONS or (isinstance(record, Part) and not record.said):
        return
    revision.operations.append(Operation(section, name, encoded))


def _complete(synthesis: Synthesis, revision: Revision, *, was_final: bool) -> None:
    """Number the revision, and say how complete the synthesis is."""
    complete = synthesis.complete
    complete.percent = round(complete.shares / max(complete.agents, 1)) / 100
    complete.final = 0 < complete.agents == complete.ended and not complete.sweeps
    revision.complete = encode(complete)
    if revision.operations or revision.complete != synthesis.shown:
        synthesis.shown = revision.complete
        synthesis.revision += 1
        revision.number = synthesis.revision
        revision.is_final = complete.final
    if complete.final and not was_final:
        final = Synthesized(
            revision.number, complete.agents, complete.findings, complete.contradictions
        )
        revision.signals.append((SignalType.SYNTHESIZED, final))


def _clear(synthesis: Synthesis) -> None:
    for kept in (
        synthesis.dirty, synthesis.before, synthesis.edges, synthesis.changed, synthesis.index,
        synthesis.sweeps, synthesis.causes,
    ):  # fmt: skip
        kept.clear()
