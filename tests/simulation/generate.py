"""Random plans: what agents do, and which faults happen meanwhile."""

from __future__ import annotations

import random

from tests.simulation import scenes
from tests.simulation.plan import Line, Plan
from tests.simulation.rulesets import RANDOM
from tests.simulation.scenes import SCENES

AGENTS = ("A", "B", "C", "D", "E", "F")
#: Agents that have a session each: they come only to be cut off.
SMALL = ("S1", "S2", "S3", "S4", "S5")
THINGS = ("d1", "d2", "d3")
PATHS = ("a.py", "b.py", "src/c.py", "src/**", "*.py", "doc")
CHECKPOINTS = ("files_read", "issues_found", "recommendations_drafted")

#: Verb → its weight.
HABITS = {
    "progress": 8, "partial": 8, "write": 10, "wait": 5, "resolve": 6, "checkpoint": 8,
    "integrate": 2, "ask": 2, "ready": 1, "ahead": 1, "burst": 2, "idle": 2, "complete": 1,
    "fail": 1,
}  # fmt: skip

#: Fault → its weight.
TROUBLES = {
    "kill agent": 4, "freeze agent": 3, "kill worker": 6, "freeze worker": 6, "leave worker": 2,
    "lost replies": 8, "late requests": 6, "repeats": 4, "slow": 4, "cut": 4, "cut all": 2,
    "restart": 2, "refuse": 2, "clock": 3, "group": 1, "epoch": 1, "intruder": 10, "lose": 3,
    "outage": 2, "no writes": 2, "asleep": 1, "ghost": 4,
    "exhaust": 3, "build": 2, "flood": 2, "unreadable": 1, "swoon": 2,
    "overtake": 3,
}  # fmt: skip

#: Error replies of a server that cannot serve for some time.
REFUSALS = ("READONLY", "LOADING", "OOM", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")


def generate(seed: int) -> Plan:
    """Return the plan of a seed; it depends on the seed and this module only."""
    # Each part has random numbers of its own: one that changes leaves the others as they are.
    chance = random.Random(f"{seed}/settings")
    # Busy runs for events close together, slow ones for long waits.
    pace_s = chance.choice((0.5, 5.0, 60.0, 180.0))
    settings = {
        "seed": seed,
        "partitions": chance.choice((1, 1, 2)),
        "orchestrators": chance.randint(1, 3),
        "synthesizers": chance.randint(1, 2),
        "lease_ms": chance.choice((1_000, 5_000)) if pace_s < 30 else 30_000,
        "heartbeat_ms": 10_000 if pace_s < 30 else 60_000,
        "ingress_max": chance.choice((40, 1_000)),
        "cached_max": chance.choice((1, 1_000)),
        "batch_max": chance.choice((1, 4, 256)),
        "page_max": chance.choice((2, 256)),
        "rules": chance.randrange(RANDOM),
        "forgetful": int(chance.random() < 0.2),
    }
    agents = AGENTS[: chance.randint(2, len(AGENTS))]
    days = chance.randint(12, 40)
    lines: list[Line] = []
    for name in agents:
        lines += _day(random.Random(f"{seed}/{name}"), name, pace_s, days)
    end_s = max(line.at_s for line in lines)
    scene = _scene(random.Random(f"{seed}/scene"), settings, agents, end_s + 10)
    if scene or pace_s > 1:
        # Workers do much for a short lease while all others wait: it is for busy runs only.
        settings["lease_ms"] = max(settings["lease_ms"], 5_000)
    lines += scene
    chance = random.Random(f"{seed}/troubles")
    for _ in range(chance.randint(0, 24)):
        at_s = chance.uniform(0, end_s)
        lines += _trouble(chance, settings, agents, at_s, pace_s)
    for _ in range(chance.randint(0, 6)):
        lines.append(Line(_ms(chance.uniform(0, end_s)), "operator", "decide"))
    if seed % 4 == 0:
        # From a source of chance of its own, so that all other plans stay what they are.
        lines += _deletions(random.Random(-seed), agents, end_s)
    if seed % 3 == 0:
        lines += _links(random.Random(f"{seed}/links"), settings, end_s)
    return Plan(settings, tuple(sorted(lines, key=lambda line: line.at_s)))


def _scene(
    chance: random.Random, settings: dict[str, int], agents: tuple[str, ...], at_s: float
) -> list[Line]:
    """Return what happens at the end of some plans, when nothing else does."""
    if settings["heartbeat_ms"] != 10_000:
        return []
    if chance.random() < 0.2:
        return _cut_off(chance, settings, agents, at_s)
    fitting = [name for name in SCENES if scenes.fits(name, settings)]
    if not fitting or chance.random() < 0.3:
        return []
    return scenes.lines(chance.choice(fitting), at_s, chance)


def _day(chance: random.Random, name: str, pace_s: float, tasks: int) -> list[Line]:
    """Yield what one agent does, from its start."""
    at_s = chance.uniform(0, 3 * pace_s)
    lines = [_start(chance, name, at_s)]
    for _ in range(tasks):
        at_s += chance.expovariate(1 / pace_s)
        verb = chance.choices(list(HABITS), list(HABITS.values()))[0]
        lines.append(Line(_ms(at_s), name, verb, _words(chance, verb, pace_s)))
        if verb in ("complete", "fail"):
            at_s += chance.expovariate(1 / pace_s)
            lines.append(_start(chance, name, at_s))
    return lines


def _start(chance: random.Random, name: str, at_s: float) -> Line:
    words = [f"priority={chance.randint(0, 5)}", f"stream={chance.choice(('A', 'B'))}"]
    if chance.random() < 0.5:
        words.append("produces=" + ",".join(sorted(chance.sample(THINGS, chance.randint(1, 2)))))
    if chance.random() < 0.3:
        words += [f"task=t{chance.randint(1, 3)}", "type=Code_Review"]
    if chance.random() < 0.3:
        words.append("group=g")
    return Line(_ms(at_s), name, "start", tuple(words))


def _words(chance: random.Random, verb: str, pace_s: float) -> tuple[str, ...]:
    timeout = f"timeout={chance.choice((2, 10, 60, 400))}"
    hold = f"hold={min(chance.expovariate(1 / pace_s), 30.0):.1f}"
    match verb:
        case "progress":
            checkpoint = (chance.choice(CHECKPOINTS),) if chance.random() < 0.4 else ()
            return (str(chance.randint(0, 100)), *checkpoint)
        case "partial":
            if chance.random() < 0.3:
                return chance.choice(("/n", "/total")), str(chance.randint(1, 9))
            return chance.choice(("port", "host", "name")), chance.choice(("x", "y", "z"))
        case "write":
            paths = ",".join(chance.sample(PATHS, chance.randint(1, 2)))
            then = (f"then={chance.choice(PATHS)}",) if chance.random() < 0.3 else ()
            return (paths, hold, timeout, *then)
        case "wait":
            return chance.choice((*THINGS, "a.py", "q1")), timeout
        case "resolve":
            consumers = (chance.choice(AGENTS),) if chance.random() < 0.3 else ()
            return (chance.choice(THINGS), *consumers)
        case "checkpoint":
            return chance.choice(CHECKPOINTS), timeout
        case "integrate":
            return chance.choice(("release", "fixes")), hold, timeout
        case "ask":
            to = (f"to={chance.choice(AGENTS)}",) if chance.random() < 0.3 else ()
            named = ("id=q1",) if chance.random() < 0.3 else ()
            deadline: tuple[str, ...] = ()
            if chance.random() < 0.4:
                deadline = (f"deadline={chance.choice((5, 30, 200))}",)
                deadline += ("default=one",) if chance.random() < 0.5 else ()
            return (*to, *named, *deadline, timeout)
        case "burst":
            return (str(chance.randint(10, 150)),)
        case "idle":
            return (f"{min(chance.expovariate(1 / pace_s), 300):.1f}",)
    return ()


def _deletions(chance: random.Random, agents: tuple[str, ...], end_s: float) -> list[Line]:
    """Somebody writes entries by hand, and deletes some of them again."""
    return [
        Line(_ms(chance.uniform(0, end_s)), "intruder", "delete", (chance.choice(agents),))
        for _ in range(chance.randint(4, 16))
    ]


def _links(chance: random.Random, settings: dict[str, int], end_s: float) -> list[Line]:
    """Workers have links that are far, lossy or narrow, for long."""
    workers = [f"orchestrator-{n}" for n in range(1, settings["orchestrators"] + 1)]
    workers += [f"synthesizer-{n}" for n in range(1, settings["synthesizers"] + 1)]
    kinds = ("delay=0.05", "delay=0.3", "delay=1", "loss=0.3", "loss=0.9", "rate=500", "rate=5000")
    return [
        Line(
            _ms(chance.uniform(0, end_s)),
            chance.choice(workers),
            "link",
            (str(chance.choice((60, 300, 900))), *sorted(chance.sample(kinds, 1))),
        )
        for _ in range(chance.randint(1, 4))
    ]


def _cut_off(
    chance: random.Random, settings: dict[str, int], agents: tuple[str, ...], at_s: float
) -> list[Line]:
    """All agents do no more than live; then all are cut off together, for longer than a silence.

    So are those of many small sessions, and the worker that decides about them can be a new one.
    """
    lines = [*(_start(chance, name, at_s) for name in agents)]
    if chance.random() < 0.7:
        lines += [_start(chance, name, at_s + chance.uniform(0, 5)) for name in SMALL]
        if chance.random() < 0.5:
            for number in range(1, settings["orchestrators"] + 1):
                kill_s, worker = at_s + 60 + chance.uniform(0, 60), f"orchestrator-{number}"
                lines += [Line(_ms(kill_s), worker, "kill"), Line(_ms(kill_s + 1), worker, "join")]
    return [
        *lines,
        Line(_ms(at_s + 60), "server", "fleet", ("150",)),
        Line(_ms(at_s + 220), "operator", "decide"),
    ]


def _anew(chance: random.Random, agents: tuple[str, ...], at_s: float) -> list[Line]:
    """Agents start again, so that nothing is left for them to do."""
    killed = [Line(_ms(at_s), name, "kill") for name in agents]
    return [*killed, *(_start(chance, name, at_s + 1) for name in agents)]


def _absence(
    chance: random.Random, kind: str, workers: list[str], agents: tuple[str, ...], at_s: float
) -> list[Line]:
    """Nobody can be heard for a while, longer than any silence that is allowed."""
    away_s = chance.choice((60.0, 300.0, 900.0))
    if kind == "no writes":
        reply = chance.choice(("OOM", "READONLY"))
        return [Line(_ms(at_s), "server", "refuse", (f"{away_s / 2:g}", reply))]
    if kind == "asleep":
        # A laptop is closed: every agent and every worker stops, and goes on later.
        return [Line(_ms(at_s), who, "freeze", (f"{away_s / 2:g}",)) for who in (*agents, *workers)]
    # No orchestrator, while agents go on: what comes then is a backlog.
    gone = [who for who in workers if who.startswith("orchestrator")]
    return [
        *(Line(_ms(at_s), who, "kill") for who in gone),
        *(Line(_ms(at_s + away_s), who, "join") for who in gone),
    ]


def _ghost(chance: random.Random, name: str, at_s: float) -> list[Line]:
    """An agent is killed while a signal of it is on its way: its successor has started by then."""
    return [
        Line(_ms(at_s), name, "late", ("4", "within=20")),
        *(Line(_ms(at_s + 0.1 * n), name, "progress", (str(10 * n),)) for n in range(1, 4)),
        Line(_ms(at_s + 0.4), name, "kill"),
        _start(chance, name, at_s + 0.6),
    ]


def _overtake(chance: random.Random, name: str, at_s: float) -> list[Line]:
    """Signals of an agent are on their way when somebody else skips their numbers in its name."""
    return [
        *_anew(chance, (name,), at_s),
        Line(_ms(at_s + 3), name, "slow", ("2", "by=1")),
        *(Line(_ms(at_s + 3 + 0.1 * n), name, "progress", (str(n),)) for n in range(1, 4)),
        Line(_ms(at_s + 3.2), "intruder", "skip", (name,)),
    ]


def _exhaust(
    chance: random.Random, settings: dict[str, int], agent: str, at_s: float, last_s: float
) -> list[Line]:
    """The ids of a stream are used up; who replaces it is slow, and is stopped or killed."""
    lines = [Line(_ms(at_s), "intruder", "exhaust", (agent,))]
    if chance.random() < 0.6:
        for number in range(1, settings["orchestrators"] + 1):
            worker, stop_s = f"orchestrator-{number}", at_s + chance.uniform(0.0, 4.0)
            lines.append(Line(_ms(at_s), worker, "slow", ("5", "by=0.7")))
            if chance.random() < 0.5:
                lines.append(Line(_ms(stop_s), worker, "freeze", (f"{last_s:g}",)))
            else:
                lines.append(Line(_ms(stop_s), worker, "kill"))
                lines.append(Line(_ms(stop_s + last_s), worker, "join"))
    return lines


def _trouble(
    chance: random.Random,
    settings: dict[str, int],
    agents: tuple[str, ...],
    at_s: float,
    pace_s: float,
) -> list[Line]:
    kind = chance.choices(list(TROUBLES), list(TROUBLES.values()))[0]
    workers = [f"orchestrator-{n}" for n in range(1, settings["orchestrators"] + 1)]
    workers += [f"synthesizer-{n}" for n in range(1, settings["synthesizers"] + 1)]
    worker, agent = chance.choice(workers), chance.choice(agents)
    who = worker if chance.random() < 0.6 else agent
    # Some faults end before anybody notices, others last longer than every lease.
    last_s = chance.choice((0.05, 0.5, 2.0, 3 * settings["lease_ms"] / 1000))
    last = f"{last_s:g}"
    back_s = at_s + chance.expovariate(1 / max(last_s, 0.1))

    def line(who: str, verb: str, *words: str) -> Line:
        return Line(_ms(at_s), who, verb, words)

    match kind:
        case "kill agent":
            return [line(agent, "kill"), _start(chance, agent, back_s)]
        case "ghost" | "overtake":
            return (_ghost if kind == "ghost" else _overtake)(chance, agent, at_s)
        case "flood" | "unreadable":
            return [line("intruder", kind, agent, f"times={chance.randint(20, 150)}")]
        case "swoon":
            # Longer than any silence that is allowed: the agent wakes up and goes on.
            return [line(agent, "freeze", "700")]
        case "build":
            return [line(agent, "announce", "240"), Line(_ms(at_s + 1), agent, "freeze", ("230",))]
        case "exhaust":
            return _exhaust(chance, settings, agent, at_s, last_s)
        case "freeze agent":
            return [line(agent, "freeze", last)]
        case "kill worker":
            return [line(worker, "kill"), Line(_ms(back_s), worker, "join")]
        case "freeze worker":
            return [line(worker, "freeze", last)]
        case "outage" | "no writes" | "asleep":
            return _absence(chance, kind, workers, agents, at_s)
        case "leave worker":
            return [line(worker, "leave"), Line(_ms(back_s + 5), worker, "join")]
        case "lost replies":
            return [line(who, "lose", str(chance.randint(1, 6)))]
        case "late requests":
            return [line(who, "late", str(chance.randint(1, 4)), f"within={last}")]
        case "repeats":
            return [line(who, "repeat", str(chance.randint(1, 4)), f"within={last}")]
        case "slow":
            return [line(who, "slow", last, f"by={chance.choice((0.05, 1, 6))}")]
        case "cut":
            return [line(who, "cut", last)]
        case "cut all":
            return [line("server", "cut")]
        case "restart":
            return [line("server", "restart", last)]
        case "refuse":
            return [line("server", "refuse", last, chance.choice(REFUSALS))]
        case "clock":
            return [line("server", "clock", str(chance.choice((-600, -60, -1, 1, 30, 120))))]
        case "group":
            return [line("server", "group", str(chance.randrange(settings["partitions"])))]
        case "epoch":
            return [line("server", "epoch", str(chance.randrange(settings["partitions"])), last)]
        case "lose" if settings["forgetful"]:
            return [line("server", "forget", last, f"back={chance.choice((0.01, 0.3, 1, 5))}")]
    return [line("intruder", chance.choice(INTRUSIONS), chance.choice(agents))]


#: What a person with redis-cli, or a broken program, sends in the name of an agent.
INTRUSIONS = (
    "garbage", "stale", "again", "release", "resolve", "integrated", "unknown", "blocked",
    "ended", "decided", "hops", "leap", "jump", "bomb",
)  # fmt: skip


def _ms(at_s: float) -> float:
    return round(at_s, 3)
