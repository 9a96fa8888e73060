"""Folds one more result into a session's synthesis: what `step` is to signals.

Theory of operation. A result is taken apart into statements, one for each part of the synthesis
that it speaks of (`partial.py`). A part keeps its statements so that the order of arrival leaves no
trace (`state.py`). All parts that a batch touches are merged once (`merge.py`) and published as one
revision (`publish.py`). So the same results make the same synthesis in any order, in batches of any
size, and however often each result arrives; and one more result costs the same however many there
were before.

A result can be folded only when the records it touches are in memory: `needs` names them.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Raw, Struct, structs

from fabric.core.contradiction import DOCUMENT, FINDINGS, digest, shareable
from fabric.core.limits import NAMES_SHOWN_MAX, SESSION_PARTS_MAX
from fabric.core.policy import RestartPolicy
from fabric.core.record import AgentStatus
from fabric.core.signal import SignalType
from fabric.core.synthesis import state
from fabric.core.synthesis.complete import Expected, Roster
from fabric.core.synthesis.partial import (
    Origin,
    Refusal,
    list_of,
    operator_of,
    places_above,
    prefixes_inside,
)
from fabric.core.synthesis.relation import Pair, Relations, Rename
from fabric.core.synthesis.state import Part, Statement, SynthesisState, Verdict

#: Section of the hash that keeps, for each agent, how far the sweep over its parts has come.
SWEEP = "sweep"

#: The signals that end an incarnation.
ENDS = {SignalType.COMPLETED: AgentStatus.COMPLETED, SignalType.FAILED: AgentStatus.FAILED}


class Result(Struct, frozen=True):
    """One entry of the results stream, taken apart.

    `percent` is how far the agent had come by then. With a refusal the statements are left out and
    everything else counts: an agent whose last result is too large has ended all the same. A
    verdict, a refinement, a roster and what is said of keys come without statements. A roster names
    agents, and says whether they are absent. `is_whole`: the statements are all that the agent
    still says.
    """

    type: SignalType
    origin: Origin
    statements: dict[str, Statement] = {}
    percent: int | float | None = None
    error: str = ""
    is_silent: bool = False
    refusal: Refusal | None = None
    verdict: tuple[str, Verdict] | None = None
    refined: tuple[str, state.RefinementRecord] | None = None
    roster: tuple[list[str], bool] | None = None
    is_whole: bool = False
    relations: list[Pair | Rename] | None = None


def needs(synthesis: SynthesisState, result: Result) -> set[str]:
    """Return the fields that a result touches and that are not in memory yet.

    Load them and ask again, as their values can lead to others, until the set is empty.
    """
    if result.type in (SignalType.RUN_OPENED, SignalType.RUN_PURGED):
        return set()
    if result.verdict is not None:
        return _missing(synthesis, (result.verdict[0],))
    if result.refined is not None:
        return _missing(synthesis, (f"{state.REFINED}:{result.refined[0]}",))
    if result.relations is not None:
        return _missing(synthesis, (state.RELATIONS,))
    if result.roster is not None:
        agents = [f"{state.AGENTS}:{name}" for name in result.roster[0]]
        return _missing(synthesis, (state.ROSTER, *agents))
    agent = result.origin.agent
    wanted = _missing(synthesis, (f"{state.AGENTS}:{agent}", f"{SWEEP}:{agent}", state.ROSTER))
    if result.statements:
        wanted |= touched(synthesis, agent, result.statements)
        for statement in result.statements.values():
            if statement.supersedes:
                wanted |= _missing(synthesis, map(_finding, statement.supersedes))
    return wanted


def touched(synthesis: SynthesisState, agent: str, names: Iterable[str]) -> set[str]:
    """Return the fields not in memory among an agent's parts, their edges' ends, places above."""
    known = synthesis.records
    found: set[str] = set()
    for name in names:
        if name not in known:
            found.add(name)
        if not name.startswith(FINDINGS):
            found |= _missing(synthesis, places_above(name))
            continue
        part = synthesis.known_part(name)
        for statement in part.said.get(agent, ()) if part is not None else ():
            if statement.supersedes:
                found |= _missing(synthesis, map(_finding, statement.supersedes))
    return found


def _finding(key: str) -> str:
    return f"{FINDINGS}:{key}"


def _missing(synthesis: SynthesisState, fields: Iterable[str]) -> set[str]:
    # Field by field: subtracting the keys of a dictionary from a set visits the whole dictionary.
    return {field for field in fields if field not in synthesis.records}


def fold(synthesis: SynthesisState, result: Result, policy: RestartPolicy) -> Refusal | None:
    """Fold one result, for `publish` to merge; return why its statements were left out, if so."""
    origin, refusal = result.origin, result.refusal
    synthesis.causes[origin.log] = None
    synthesis.ms = max(synthesis.ms, origin.ms)
    if result.verdict is not None:
        _decide(synthesis, *result.verdict)
    elif result.relations is not None:
        _relate(synthesis, result.relations)
    elif result.roster is not None:
        _expect(synthesis, origin.log, *result.roster)
    elif result.refined is not None:
        name, refined = result.refined
        field = f"{state.REFINED}:{name}"
        known = synthesis.records.get(field)
        if not isinstance(known, state.RefinementRecord) or refined.log > known.log:
            synthesis.records[field] = refined
            synthesis.changed.add(field)
    else:
        is_full = synthesis.complete.parts >= SESSION_PARTS_MAX
        if is_full and any(synthesis.records.get(name) is None for name in result.statements):
            limit = f"{SESSION_PARTS_MAX} of one session's synthesis"
            refusal = refusal or Refusal("LIMIT", "a part more", limit)
        _follow_agent(synthesis, result, policy, is_whole=result.is_whole and refusal is None)
        for name, statement in result.statements.items() if refusal is None else ():
            _add_statement(synthesis, name, origin.agent, statement)
    return refusal


def sweep(synthesis: SynthesisState, agent: str, names: list[str], *, is_over: bool) -> None:
    """Merge some of an agent's parts anew; the next call continues after the last of these.

    `is_over`: no more names begin with the sweep's present prefix.
    """
    field = f"{SWEEP}:{agent}"
    known = synthesis.records.get(field)
    if not isinstance(known, state.Sweep):
        return
    for name in names:
        part = synthesis.known_part(name)
        if part is not None and agent in part.said:
            touch(synthesis, name, agent)
            _reconcile(synthesis, name, part, agent)
    synthesis.changed.add(field)
    within = known.within[1:] if is_over else known.within
    if within:
        synthesis.records[field] = state.Sweep(within, "" if is_over else names[-1])
        synthesis.sweeps[agent] = None
    else:
        synthesis.records[field] = None
        synthesis.complete.sweeps -= 1


def touch(synthesis: SynthesisState, name: str, agent: str | None = None) -> Part:
    """Return a part that is about to change, with the values of all statements in place."""
    part = synthesis.part(name)
    agents = synthesis.dirty.get(name)
    if agents is None:
        agents = synthesis.dirty[name] = set()
        synthesis.note_before(name, part)
        state.expand(part)
        if name.startswith(FINDINGS):
            synthesis.edges[name] = state.edges(part, inherits=synthesis.inherits)
    if agent is not None:
        agents.add(agent)
    return part


def _follow_agent(
    synthesis: SynthesisState, result: Result, policy: RestartPolicy, *, is_whole: bool
) -> None:
    """Update the agent's record: its incarnation, its status, how far it has come."""
    origin = result.origin
    if synthesis.records.get(f"{state.AGENTS}:{origin.agent}") is None:
        _note_arrival(synthesis, origin.agent)
    agent = synthesis.agent(origin.agent)
    complete = synthesis.complete
    known = structs.replace(agent)
    counted = {agent.incarnation, *agent.completed}
    if origin.incarnation > agent.incarnation:
        counted.add(origin.incarnation)
        agent.incarnation = origin.incarnation
        agent.status, agent.error, agent.percent = AgentStatus.ACTIVE, "", 0
    end = AgentStatus.DEAD if result.is_silent else ENDS.get(result.type)
    if end is not None and origin.ms > (complete.ended_ms or 0):
        complete.ended_ms = origin.ms
        synthesis.changed.add(f"{state.AGENTS}:{origin.agent}")
    if end is AgentStatus.COMPLETED and origin.incarnation not in agent.completed:
        agent.completed = sorted([*agent.completed, origin.incarnation])
    if origin.incarnation == agent.incarnation:
        if end is not None:
            agent.status, agent.error = end, result.error
        if result.percent is not None:
            agent.percent = max(agent.percent, result.percent)
    if result.statements and (not agent.reported or origin.log < agent.reported):
        agent.reported, agent.reported_ms = origin.log, origin.ms
    complete.shares += agent.share() - known.share()
    complete.ended += agent.has_ended - known.has_ended
    complete.reported += (agent.reported > 0) - (known.reported > 0)
    is_news = is_whole and agent.note_whole(origin.incarnation, origin.since, origin.log)
    if result.type is SignalType.STARTED and origin.since:
        is_news = agent.note_resumed(origin.incarnation, origin.since)
    if agent != known:
        synthesis.changed.add(f"{state.AGENTS}:{origin.agent}")
    is_other = counted != {agent.incarnation, *agent.completed}
    if known.reported and (is_news or (is_other and policy is RestartPolicy.REPLACE)):
        _start_sweep(synthesis, origin.agent, "")


def _expect(synthesis: SynthesisState, log: int, names: list[str], is_absent: bool) -> None:
    """Expect these agents, or expect them no longer. Of each, the latest word counts."""
    roster = synthesis.records.get(state.ROSTER)
    roster = roster if isinstance(roster, Roster) else Roster()
    for name in names:
        known = roster.agents.get(name)
        if known is None or known.log < log:
            has_come = synthesis.records.get(f"{state.AGENTS}:{name}") is not None
            roster.agents[name] = Expected(log, has_come, is_absent)
    _keep_roster(synthesis, roster)


def _relate(synthesis: SynthesisState, said: list[Pair | Rename]) -> None:
    """Keep what is said of keys as such: no part changes by it."""
    known = synthesis.records.get(state.RELATIONS)
    known = known if isinstance(known, Relations) else Relations()
    if known.add(said):
        synthesis.records[state.RELATIONS] = known
        synthesis.changed.add(state.RELATIONS)


def _note_arrival(synthesis: SynthesisState, name: str) -> None:
    roster = synthesis.records.get(state.ROSTER)
    if isinstance(roster, Roster) and name in roster.agents:
        roster.agents[name].has_come = True
        _keep_roster(synthesis, roster)


def _keep_roster(synthesis: SynthesisState, roster: Roster) -> None:
    """Keep a roster that has changed, and count it anew: in the order of names, as any other."""
    complete = synthesis.complete
    roster.agents = dict(sorted(roster.agents.items()))
    missing = [name for name, one in roster.agents.items() if not one.has_come]
    complete.expected = len(roster.agents)
    complete.awaited = sum(not roster.agents[name].is_absent for name in missing)
    complete.missing = missing[:NAMES_SHOWN_MAX]
    synthesis.records[state.ROSTER] = roster
    synthesis.changed.add(state.ROSTER)


def _start_sweep(synthesis: SynthesisState, agent: str, *prefixes: str) -> None:
    """Have those of an agent's parts merged anew whose names begin with these prefixes."""
    field = f"{SWEEP}:{agent}"
    known = synthesis.records.get(field)
    if not isinstance(known, state.Sweep):
        known = synthesis.records[field] = state.Sweep()
        synthesis.complete.sweeps += 1
    # A prefix that is already under way is swept once more.
    known.within += [one for one in prefixes if one not in known.within[1:]]
    synthesis.changed.add(field)
    synthesis.sweeps[agent] = None


def _add_statement(synthesis: SynthesisState, name: str, agent: str, statement: Statement) -> None:
    """Add one statement to its part, and reconcile the places around it."""
    part = touch(synthesis, name, agent)
    if not part.said:
        synthesis.complete.parts += 1
    if agent not in part.said:
        synthesis.index.setdefault(agent, {})[name] = None
    if not state.add(part, agent, statement):
        return
    section = name.partition(":")[0]
    if section == FINDINGS:
        return
    for place in places_above(name):
        above = synthesis.part(place)
        if not above.inner:
            above.inner = True
            synthesis.changed.add(place)
    _reconcile(synthesis, name, part, agent)
    if section == DOCUMENT and part.inner:
        # The agent may have spoken of places inside this one: the sweep looks them up.
        _start_sweep(synthesis, agent, *prefixes_inside(name))


def _reconcile(synthesis: SynthesisState, name: str, part: Part, agent: str) -> None:
    """Of an agent's statements about a place and about places inside it, the later one counts.

    A map that takes the place of a value withdraws the value, and a value withdraws the map,
    whichever arrived first. A delta goes with the value at its own place: only a later value
    withdraws it.
    """
    changed = f"{DOCUMENT}:{list_of(name.partition(':')[2])}" if operator_of(name) else ""
    for place in places_above(name):
        above = synthesis.known_part(place)
        theirs = above.said.get(agent) if above is not None else None
        if not theirs:
            continue
        mine = state.last_values(part.said[agent])
        above = touch(synthesis, place, agent)
        for value in state.last_values(theirs).values():
            state.add(part, agent, _withdrawal(value))
        for value in mine.values() if place != changed else ():
            state.add(above, agent, _withdrawal(value))


def _withdrawal(by: Statement) -> Statement:
    return Statement(by.log, by.ms, by.incarnation, withdrawn=True, since=by.since)


def _decide(synthesis: SynthesisState, name: str, verdict: Verdict) -> None:
    part = touch(synthesis, name)
    known = part.verdict
    if known is not None and known.log == verdict.log:
        return
    if known is not None:
        # A value that one person has considered is not asked about again, whoever decided last.
        considered = {known.chosen, verdict.chosen, *known.rejected, *verdict.rejected}
        values = _values(known) | _values(verdict)
        verdict = verdict if verdict.log > known.log else known
        rejected = sorted(considered - {verdict.chosen})
        others = [values[mark] for mark in rejected if mark in values]
        verdict = structs.replace(verdict, rejected=rejected, others=others)
    part.verdict = verdict


def _values(verdict: Verdict) -> dict[str, Raw]:
    """Return the values that a decision names, by digest; a large one it may know or not."""
    values = (shareable(one) for one in (*verdict.others, verdict.value))
    return {digest(one): one for one in values if isinstance(one, Raw)}
