"""Publishes a batch of folded results as one revision, returned as data.

Every part that the batch touched is merged once. Each part that has changed becomes a record to
store and an operation of a JSON Patch (RFC 6902). Documents are never compared with each other: the
members that changed are known, so a revision costs only what changes in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from msgspec import Raw, Struct

from fabric.core import contradiction
from fabric.core.contradiction import DOCUMENT, FINDINGS
from fabric.core.limits import LIST_ITEMS_MAX, NAME_CHARS_MAX, NAMES_SHOWN_MAX, VALUES_SENT_MAX
from fabric.core.policy import Comparison, RestartPolicy
from fabric.core.signal import ConflictDetected, Decided, Rival, SignalType, Synthesized
from fabric.core.synthesis import delta, merge, state, typed
from fabric.core.synthesis.compare import Agreement
from fabric.core.synthesis.complete import Phase
from fabric.core.synthesis.contributor import Contributor
from fabric.core.synthesis.fold import touch
from fabric.core.synthesis.merge import Reducer, Strategies
from fabric.core.synthesis.partial import list_of, operator_of
from fabric.core.synthesis.state import Part, Standing, State, SynthesisState

#: Fields of the hash that belong to no section.
REVISION = "revision"
COMPLETE = "complete"
#: The rules that the session is merged by: those in force when it began.
RULES = "rules"

#: How the synthesizer answers the question about a contradiction that has ended by itself.
SUPERSEDED, WITHDRAWN, AGREED = "superseded", "withdrawn", "agreed"

#: For each operator of a delta, a value such as it makes: that has the place's reducer.
SAMPLES: Final[Mapping[str, Any]] = {
    delta.ADD: {delta.TOTAL: 0},
    delta.APPEND: [],
    delta.REMOVE: [],
    delta.TEXT: "",
}

#: Findings in these states are counted.
_COUNTED = frozenset({State.AGREED, State.CONTRADICTED, State.DECIDED})


class Operation(Struct, frozen=True):
    """One operation of a patch: sets a member of a section; removes it if `record` is None."""

    section: str
    name: str
    record: bytes | None


class Revision(Struct):
    """Everything to write for one revision: fields of the hash, the patch, signals to send.

    `number` is 0 if nothing visible has changed; then there is no patch. `index` names the parts
    that agents speak of for the first time, `sweeps` the agents whose sweep continues. If nothing
    else comes, it is final at `settles_ms`; 0: nothing depends on the time.
    """

    number: int
    operations: list[Operation]
    fields: dict[str, bytes | None] = {}
    complete: bytes = b""
    causes: list[int] = []
    ms: int = 0
    is_final: bool = False
    index: dict[str, list[str]] = {}
    sweeps: list[str] = []
    settles_ms: int = 0
    signals: list[tuple[SignalType, ConflictDetected | Decided | Synthesized]] = []
    #: The document begins anew: the patch replaces all of it.
    is_beginning: bool = False


class Publisher:
    """Merges and publishes what has been folded, by fixed rules: one for all sessions."""

    def __init__(
        self, policy: RestartPolicy, strategies: Strategies, reducers: Mapping[str, Reducer]
    ) -> None:
        self._policy = policy
        self._strategies = strategies
        self._reducers = reducers

    def publish(
        self, synthesis: SynthesisState, now_ms: int = 0, settle_ms: int = 0
    ) -> Revision | None:
        """Return the revision of everything folded since the last one, None if there is nothing.

        `now_ms` is the server's time; `settle_ms` how long agents may take to follow the last one.
        """
        for name in list(synthesis.dirty):
            self._update_statements(synthesis, name)
        revision = Revision(0, [], causes=list(synthesis.causes), ms=synthesis.ms)
        for name in sorted(synthesis.dirty):
            self._publish_part(synthesis, name, revision)
        for field in sorted(synthesis.changed - synthesis.dirty.keys()):
            _publish_record(synthesis, field, revision)
        if revision.fields or synthesis.complete.state is Phase.SETTLING:
            _complete(synthesis, revision, now_ms, settle_ms)
        revision.index = {agent: list(names) for agent, names in synthesis.index.items()}
        revision.sweeps = list(synthesis.sweeps)
        synthesis.end_batch()
        is_news = revision.fields or revision.sweeps or revision.number or revision.settles_ms
        return revision if is_news else None

    def begin_run(self, synthesis: SynthesisState, log: int, ms: int) -> Revision | None:
        """Empty a synthesis for the next run of its session; None if there is none yet.

        The revision that says so goes on from the last one, so that readers meet no number twice.
        """
        synthesis.begin_run()
        if not synthesis.revision:
            return None
        synthesis.revision += 1
        synthesis.published_complete = complete = state.encode(synthesis.complete)
        revision = Revision(synthesis.revision, [], {}, complete, [log], ms)
        revision.is_beginning = True
        return revision

    def _update_statements(self, synthesis: SynthesisState, name: str) -> None:
        """Find each agent's current statement, and carry its edges to the parts they lead to."""
        part = synthesis.part(name)
        for agent in synthesis.dirty[name]:
            known = synthesis.records.get(f"{state.AGENTS}:{agent}")
            if agent in part.said and isinstance(known, Contributor):
                counts = partial(known.counts, policy=self._policy)
                state.set_standing(part, agent, counts, known.whole_log(self._policy))
        if not name.startswith(FINDINGS):
            return
        key = name.partition(":")[2]
        before = synthesis.edges.get(name, {})
        after = state.edges(part, inherits=synthesis.inherits)
        for target, agent in before.keys() | after.keys():
            log = after.get((target, agent))
            if log != before.get((target, agent)):
                state.put_edge(touch(synthesis, f"{FINDINGS}:{target}"), key, agent, log)

    def _publish_part(self, synthesis: SynthesisState, name: str, revision: Revision) -> None:
        part = synthesis.part(name)
        section, _, place = name.partition(":")
        if section == FINDINGS:
            agree = partial(self._agreement, section, place, part)
            merge.merge_finding(part, place, agree, inherits=synthesis.inherits)
        elif section == DOCUMENT:
            given = merge.place_values(part)
            named = self._reducer(place, given)
            key = self._strategies.key(place) if named == merge.ROWS else ""
            agree = partial(self._strategies.agreement, section, place)
            merge.merge_place(part, given, named, self._reducers, key, agree)
        else:
            merge.merge_item(part)
            self._describe_delta(name, place, part)
        before = synthesis.before[name]
        _publish_contradiction(synthesis, name, part, before, revision)
        if section == FINDINGS:
            synthesis.complete.findings += (part.state in _COUNTED) - (before.state in _COUNTED)
        state.compact(part)
        record = state.encode(part)
        if record == before.record and name not in synthesis.changed:
            return
        revision.fields[name] = record
        if part.said:
            revision.operations.append(Operation(section, place, record))

    def _agreement(self, section: str, key: str, part: Part) -> Agreement:
        """Return when two values of a finding are the same."""
        agreement = self._strategies.agreement(section, key)
        if agreement.comparison is Comparison.DEFAULT and _has_place(key, part):
            return agreement._replace(comparison=Comparison.PROSE)
        return agreement

    def _describe_delta(self, name: str, item: str, part: Part) -> None:
        """Have a delta name the reducer of its place, for readers that put the place together."""
        operator = operator_of(name)
        if not operator or part.reducer:
            return
        sample = SAMPLES[operator]
        pointer = list_of(item)
        part.reducer = self._strategies.of(pointer, sample)
        part.key = self._strategies.key(pointer) if part.reducer == merge.ROWS else ""

    def _reducer(self, place: str, given: Mapping[str, Any]) -> str:
        """Return a place's reducer; values of different kinds have one only if a rule names it."""
        named = {self._strategies.of(place, value) for value in given.values()}
        if named == {merge.AGREE, merge.SUM}:
            return merge.SUM  # one of them says that its number is to be added up
        name = named.pop() if len(named) == 1 else merge.BY_SOURCE
        # A list whose items are merged is stored in its items: what is left here is empty.
        return merge.LAST if name in merge.OF_ITEMS else name


def _has_place(key: str, part: Part) -> bool:
    """Whether a finding is about a place in a file: by its fields, or by its key."""
    return typed.place_in(key) is not None or any(
        isinstance(one.fields, dict) and "path" in one.fields
        for one in state.current(part).values()
    )


def _publish_contradiction(
    synthesis: SynthesisState, name: str, part: Part, before: state.Before, revision: Revision
) -> None:
    """Publish a contradiction that has begun, has changed or has ended, and signal it."""
    known = before.contradiction
    found = state.contradiction_of(part) if part.state is State.CONTRADICTED else None
    record = state.encode(found) if found is not None else None
    if record == (state.encode(known) if known is not None else None):
        return
    synthesis.complete.contradictions += (found is not None) - (known is not None)
    revision.fields[f"{state.CONTRADICTIONS}:{name}"] = record
    revision.operations.append(Operation(state.CONTRADICTIONS, name, record))
    if found is not None:
        revision.signals.append((SignalType.CONFLICT_DETECTED, _conflict(name, found)))
        return
    # Also after a person's decision: the question may have been asked again meanwhile.
    by = part.verdict.by if part.state is State.DECIDED and part.verdict is not None else None
    answer = Decided(contradiction.question_id_of(name), _outcome(part), by)
    revision.signals.append((SignalType.DECIDED, answer))


def _is_changed(revision: Revision) -> bool:
    """Whether a revision says more than what a refiner has made of another."""
    return any(one.section != state.REFINED for one in revision.operations)


def _conflict(name: str, found: state.ContradictionRecord) -> ConflictDetected:
    """Return the signal about a contradiction: which agents give which value, within limits."""
    agents = [one.agent for rivals in found.values for one in rivals]
    shareable, told = contradiction.shareable, []
    for rivals in found.values[:VALUES_SENT_MAX]:
        first, names = rivals[0], [one.agent for one in rivals[:NAMES_SHOWN_MAX]]
        assert isinstance(first.value, Raw)
        value, evidence = shareable(first.value), shareable(first.evidence)
        digest = contradiction.digest(first.value)
        told.append(Rival(names, digest, value, first.confidence, evidence))
    subject = name.partition(":")[2][:NAME_CHARS_MAX]
    return ConflictDetected([subject], agents[:LIST_ITEMS_MAX], contradiction.FINDING, name, told)


def _outcome(part: Part) -> str:
    if part.state is State.DECIDED and part.verdict is not None:
        return part.verdict.decision
    if any(one.standing is Standing.SUPERSEDED for one in state.current(part).values()):
        return SUPERSEDED
    return AGREED if len(state.current(part)) > 1 else WITHDRAWN


def _publish_record(synthesis: SynthesisState, field: str, revision: Revision) -> None:
    record = synthesis.records.get(field)
    encoded = state.encode(record) if record is not None else None
    revision.fields[field] = encoded
    section, _, name = field.partition(":")
    if field == state.RELATIONS:
        revision.operations.append(Operation(field, "", encoded))
    if section in state.SECTIONS and not (isinstance(record, Part) and not record.said):
        revision.operations.append(Operation(section, name, encoded))


def _complete(synthesis: SynthesisState, revision: Revision, now_ms: int, settle_ms: int) -> None:
    """Number the revision, and state how complete the synthesis is."""
    complete = synthesis.complete
    was_final = complete.final
    complete.percent = round(complete.shares / max(complete.agents, 1)) / 100
    number = synthesis.revision + 1
    is_changed = _is_changed(revision)
    revision.settles_ms = complete.advance(number, now_ms, settle_ms, is_changed=is_changed)
    revision.complete = state.encode(complete)
    if revision.operations or revision.complete != synthesis.published_complete:
        synthesis.published_complete = revision.complete
        synthesis.revision += 1
        revision.number = synthesis.revision
        revision.is_final = complete.final
    if complete.final and not was_final:
        counts = (complete.agents, complete.findings, complete.contradictions)
        final = Synthesized(revision.number, *counts)
        revision.signals.append((SignalType.SYNTHESIZED, final))
