"""One result more into a session's synthesis: the counterpart of `step` (seeds: RESULT_STREAMING).

Theory of operation. What agents give is taken apart into statements, one for each part of the
synthesis (`synthesis/partial.py`). A part keeps them so that the order of arrival leaves no trace
(`statement.py`); what comes of them is judged once for a whole batch (`judgement.py`), and
published as one revision (`publish.py`). So the same results make the same synthesis in any order,
in batches of any size, and however often each of them comes; and one more costs the same however
many were there.

Before a result is folded the records it touches must be in memory: `needs` names them.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, structs

from fabric.core.contradiction import DOCUMENT, FINDINGS
from fabric.core.limits import SESSION_PARTS_MAX
from fabric.core.record import AgentStatus
from fabric.core.rules import RestartPolicy
from fabric.core.signal import SignalType
from fabric.core.synthesis.part import Part, Statement, Verdict, add, edges, last_values, spread
from fabric.core.synthesis.partial import Refusal, Said, beneath, places_above
from fabric.core.synthesis.state import AGENTS, REFINED, Refined, Sweep, Synthesis

#: Field of the hash that says how far an agent's parts have been judged anew.
SWEEP = "sweep"

#: By these an incarnation ends.
ENDS = {SignalType.COMPLETED: AgentStatus.COMPLETED, SignalType.FAILED: AgentStatus.FAILED}


class Result(Struct, frozen=True):
    """One entry of the results stream, taken apart.

    `said` tells who gives it, in which incarnation and log entry, and when. `percent` is how far
    the agent had come by then. With a refusal its statements are left out, and all else counts: an
    agent that ends with a result too large has ended. A verdict and what a refiner made are
    nobody's statements.
    """

    type: SignalType
    said: Said
    statements: dict[str, Statement] = {}
    percent: int | float | None = None
    error: str = ""
    is_silent: bool = False
    refusal: Refusal | None = None
    verdict: tuple[str, Verdict] | None = None
    refined: tuple[str, Refined] | None = None


def needs(synthesis: Synthesis, result: Result) -> set[str]:
    """Name the fields that a result touches and that are not in memory yet.

    Ask again once they are: what they hold may lead to others. Empty when it can be folded.
    """
    if result.verdict is not None:
        return _missing(synthesis, (result.verdict[0],))
    if result.refined is not None:
        return _missing(synthesis, (f"{REFINED}:{result.refined[0]}",))
    agent = result.said.agent
    wanted = _missing(synthesis, (f"{AGENTS}:{agent}", f"{SWEEP}:{agent}"))
    if result.statements:
        wanted |= touched(synthesis, agent, result.statements)
        for statement in result.statements.values():
            if statement.supersedes:
                wanted |= _missing(synthesis, map(finding, statement.supersedes))
    return wanted


def touched(synthesis: Synthesis, agent: str, names: Iterable[str]) -> set[str]:
    """Name an agent's parts that are not in memory, where their edges lead, what they lie in."""
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
                found |= _missing(synthesis, map(finding, statement.supersedes))
    return found


def finding(key: str) -> str:
    """Return the name of the part that a finding's key stands for."""
    return f"{FINDINGS}:{key}"


def _missing(synthesis: Synthesis, fields: Iterable[str]) -> set[str]:
    # Field by field: a set less the keys of a dictionary goes through all of the dictionary.
    return {field for field in fields if field not in synthesis.records}


def fold(synthesis: Synthesis, result: Result, policy: RestartPolicy) -> Refusal | None:
    """Take in one result; return why its statements are left out, None when they are not.

    Nothing is judged, and nothing is published, before `publish`.
    """
    said = result.said
    synthesis.causes[said.log] = None
    synthesis.ms = max(synthesis.ms, said.ms)
    if result.verdict is not None:
        _decide(synthesis, *result.verdict)
    elif result.refined is not None:
        _refine(synthesis, *result.refined)
    else:
        refusal = result.refusal or _over_limit(synthesis, result)
        _follow(synthesis, result, policy)
        if refusal is not None:
            return refusal
        for name, statement in result.statements.items():
            _state(synthesis, name, said.agent, statement)
    return None


def sweep(synthesis: Synthesis, agent: str, names: list[str], *, is_over: bool) -> None:
    """Judge some of an agent's parts anew; the next ones come after the last of these.

    `is_over`: there are no more whose names begin as the sweep's present prefix.
    """
    field = f"{SWEEP}:{agent}"
    known = synthesis.records.get(field)
    if not isinstance(known, Sweep):
        return
    for name in names:
        part = synthesis.known_part(name)
        if part is not None and agent in part.said:
            touch(synthesis, name, agent)
            _reconcile(synthesis, name, part, agent)
    synthesis.changed.add(field)
    within = known.within[1:] if is_over else known.within
    if within:
        synthesis.records[field] = Sweep(within, "" if is_over else names[-1])
        synthesis.sweeps[agent] = None
    else:
        synthesis.records[field] = None
        synthesis.complete.sweeps -= 1


def _over_limit(synthesis: Synthesis, result: Result) -> Refusal | None:
    """Refuse statements of parts that are new, when there are as many as a session may have."""
    if synthesis.complete.parts < SESSION_PARTS_MAX:
        return None
    if all(synthesis.records.get(name) is not None for name in result.statements):
        return None
    return Refusal("LIMIT", "a part more", f"{SESSION_PARTS_MAX} of one session's synthesis")


def touch(synthesis: Synthesis, name: str, agent: str | None = None) -> Part:
    """Return a part that is about to change, with all its values in place."""
    part = synthesis.part(name)
    agents = synthesis.dirty.get(name)
    if agents is None:
        agents = synthesis.dirty[name] = set()
        synthesis.note_before(name, part)
        spread(part)
        if name.startswith(FINDINGS):
            synthesis.edges[name] = edges(part)
    if agent is not None:
        agents.add(agent)
    return part


def _follow(synthesis: Synthesis, result: Result, policy: RestartPolicy) -> None:
    """Keep how far the agent has come, and in which incarnation."""
    said = result.said
    agent = synthesis.agent(said.agent)
    complete = synthesis.complete
    known = structs.replace(agent)
    counted = {agent.incarnation, *agent.completed}
    if said.incarnation > agent.incarnation:
        counted.add(said.incarnation)
        agent.incarnation = said.incarnation
        agent.status, agent.error, agent.percent = AgentStatus.ACTIVE, "", 0
    end = AgentStatus.DEAD if result.is_silent else ENDS.get(result.type)
    if end is AgentStatus.COMPLETED and said.incarnation not in agent.completed:
        agent.completed = sorted([*agent.completed, said.incarnation])
    if said.incarnation == agent.incarnation:
        if end is not None:
            agent.status, agent.error = end, result.error
        if result.percent is not None:
            agent.percent = max(agent.percent, result.percent)
    if result.statements and (not agent.reported or said.log < agent.reported):
        agent.reported, agent.reported_ms = said.log, said.ms
    complete.shares += agent.share() - known.share()
    complete.ended += agent.has_ended - known.has_ended
    complete.reported += (agent.reported > 0) - (known.reported > 0)
    if agent != known:
        synthesis.changed.add(f"{AGENTS}:{said.agent}")
    is_other = counted != {agent.incarnation, *agent.completed}
    if known.reported and is_other and policy is RestartPolicy.REPLACE:
        _begin_sweep(synthesis, said.agent, "")


def _begin_sweep(synthesis: Synthesis, agent: str, *prefixes: str) -> None:
    """Have an agent's parts judged anew, those whose names begin so."""
    field = f"{SWEEP}:{agent}"
    known = synthesis.records.get(field)
    if not isinstance(known, Sweep):
        known = synthesis.records[field] = Sweep()
        synthesis.complete.sweeps += 1
    # One that is under way goes through once more when it is asked for again.
    known.within += [one for one in prefixes if one not in known.within[1:]]
    synthesis.changed.add(field)
    synthesis.sweeps[agent] = None


def _state(synthesis: Synthesis, name: str, agent: str, statement: Statement) -> None:
    """Keep one statement, and what it means for the places around it."""
    part = touch(synthesis, name, agent)
    if not part.said:
        synthesis.complete.parts += 1
    if agent not in part.said:
        synthesis.index.setdefault(agent, {})[name] = None
    if not add(part, agent, statement):
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
        # It may lie where the agent has said something of places beneath: those are looked up.
        _begin_sweep(synthesis, agent, *beneath(name))


def _reconcile(synthesis: Synthesis, name: str, part: Part, agent: str) -> None:
    """Of an agent's words about a place and about what lies in it, the later one counts.

    A map in the place of a value takes the value away, and a value the map: whichever came first.
    """
    for place in places_above(name):
        above = synthesis.known_part(place)
        theirs = above.said.get(agent) if above is not None else None
        if not theirs:
            continue
        mine = last_values(part.said[agent])
        above = touch(synthesis, place, agent)
        for value in last_values(theirs).values():
            add(part, agent, _withdrawal(value))
        for value in mine.values():
            add(above, agent, _withdrawal(value))


def _withdrawal(by: Statement) -> Statement:
    return Statement(by.log, by.ms, by.incarnation, withdrawn=True)


def _decide(synthesis: Synthesis, name: str, verdict: Verdict) -> None:
    part = touch(synthesis, name)
    known = part.verdict
    if known is not None and known.log == verdict.log:
        return
    if known is not None:
        # What was considered once is not asked about again, whoever decided last.
        considered = {known.chosen, verdict.chosen, *known.rejected, *verdict.rejected}
        verdict = verdict if verdict.log > known.log else known
        rejected = sorted(considered - {verdict.chosen})
        verdict = structs.replace(verdict, rejected=rejected)
    part.verdict = verdict


def _refine(synthesis: Synthesis, name: str, refined: Refined) -> None:
    field = f"{REFINED}:{name}"
    known = synthesis.records.get(field)
    if not isinstance(known, Refined) or refined.log > known.log:
        synthesis.records[field] = refined
        synthesis.changed.add(field)
