"""Scenes: short plans that bring about what a random day seldom does.

Each is written as a plan: the settings that it needs, then its lines. Random plans end with one now
and then; a mutation may name the scene in which it is to be found, and then the plan is the scene
alone, which takes a tenth of the time. The seed chooses what the scene leaves open: the other
settings, and by how little each line is late.
"""

from __future__ import annotations

import random
from dataclasses import replace
from textwrap import dedent

from tests.simulation.plan import Line, Plan, read

#: How late a line of a scene may be, s.
LATE_S_MAX = 0.2

#: Settings of a scene's plan that the scene leaves open: what the seed chooses from.
OPEN: dict[str, tuple[int, ...]] = {
    "partitions": (1, 2),
    "orchestrators": (1, 2),
    "synthesizers": (1,),
    "lease_ms": (5_000,),
    "heartbeat_ms": (10_000,),
    "ingress_max": (1_000,),
    "cached_max": (1, 1_000),
    "batch_max": (1, 4, 256),
    "page_max": (2, 256),
    "rules": (0, 1, 2, 3),
    "forgetful": (0,),
}

SCENES: dict[str, str] = {
    "requests arrive twice": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:01.000  orchestrator-1  repeat 12 within=0.05
        0:01.100  A  burst 60
        0:02.000  orchestrator-1  repeat 12 within=0.05
        0:02.100  A  burst 60
    """,
    "begun again unseen": """
        heartbeat_ms 10000
        orchestrators 1
        0:00.000  orchestrator-1  kill
        0:01.000  A  start priority=1
        0:01.500  A  progress 10
        0:02.000  A  progress 20
        0:03.000  A  kill
        0:04.000  A  start priority=2
        0:04.500  A  progress 30
        0:05.000  A  progress 40
        0:08.000  orchestrator-1  join
        0:12.000  A  progress 50
    """,
    "out of memory": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:01.000  A  burst 150
        0:01.100  server  refuse 1 OOM
        0:02.000  A  burst 20
        0:03.000  server  refuse 1 READONLY
        0:03.100  A  burst 20
    """,
    "a backlog": """
        heartbeat_ms 10000
        orchestrators 1
        batch_max 1
        rules 3
        0:00.000  A  start
        0:00.000  B  start
        0:00.500  B  progress 1
        0:01.000  B  progress 2
        0:01.500  B  progress 3
        0:02.000  orchestrator-1  slow 240 by=2
        0:03.000  A  burst 150
        0:10.000  B  progress 10
        0:20.000  B  progress 20
        0:30.000  B  progress 30
        0:40.000  B  progress 40
        4:00.000  B  progress 50
    """,
    "a number taken": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:02.000  A  progress 10
        0:03.000  A  slow 2 by=1
        0:03.100  A  progress 20
        0:03.100  intruder  next A
        0:05.000  A  progress 30
        0:07.000  intruder  next A
        0:07.500  A  progress 40
    """,
    "an unknown agent leaps": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:02.000  intruder  leap X
        0:03.000  intruder  leap Y
        0:04.000  intruder  leap Z
        0:05.000  A  progress 10
    """,
    "a copy half made": """
        heartbeat_ms 10000
        lease_ms 5000
        orchestrators 1
        0:00.000  A  start
        0:02.000  orchestrator-1  kill
        0:02.500  A  burst 20
        0:04.000  intruder  exhaust A
        0:05.000  orchestrator-1  join
        0:05.500  orchestrator-1  slow 60 by=0.4
        0:09.500  orchestrator-1  kill
        0:10.000  orchestrator-1  join
        0:10.500  orchestrator-1  slow 60 by=0.4
        0:17.000  orchestrator-1  kill
        0:17.500  orchestrator-1  join
        0:30.000  A  progress 10
    """,
    "replaced after the clock went back": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:01.000  server  clock 120
        0:02.000  A  progress 10
        0:04.000  server  clock -120
        0:05.000  intruder  exhaust A
        0:08.000  intruder  exhaust A
        0:12.000  A  progress 20
        0:14.000  A  progress 30
    """,
    "read-only for minutes": """
        heartbeat_ms 10000
        rules 3
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  A  burst 5
        0:02.000  B  burst 5
        0:04.000  server  refuse 150 READONLY
        2:40.000  A  progress 20
        2:40.000  B  progress 20
    """,
    "an agent that is heard no more": """
        heartbeat_ms 10000
        0:00.000  A  start produces=d1
        0:00.000  B  start
        0:02.000  B  wait d1 timeout=400
        0:05.000  A  kill
        7:00.000  B  progress 20
    """,
    "a silence announced": """
        heartbeat_ms 10000
        rules 3
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  A  burst 5
        0:03.000  A  announce 240
        0:04.000  A  freeze 230
        4:10.000  B  progress 20
    """,
    "results of two sessions": """
        heartbeat_ms 10000
        cached_max 1
        batch_max 6
        partitions 1
        synthesizers 1
        0:00.000  A  start
        0:00.000  E  start
        0:01.000  synthesizer-1  slow 40 by=0.2
        0:02.000  A  findings 60
        0:02.000  E  findings 60
        0:50.000  A  progress 10
    """,
    "no reply for long": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:02.000  A  progress 10
        0:03.000  A  late 40 within=1
        0:03.500  A  progress 20
        0:04.000  A  cut 60
        1:10.000  A  progress 30
        1:12.000  A  progress 40
    """,
    "messages lost by the server": """
        heartbeat_ms 10000
        forgetful 1
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  B  checkpoint files_read timeout=60
        0:05.000  B  checkpoint issues_found timeout=60
        0:05.300  B  checkpoint files_read timeout=60
        0:05.600  B  checkpoint issues_found timeout=60
        0:05.900  B  checkpoint files_read timeout=60
        0:07.000  server  forget 0.5 back=3
        0:12.000  B  integrate release hold=1 timeout=60
        0:20.000  B  integrate release hold=1 timeout=60
        0:40.000  B  checkpoint files_read timeout=60
        0:42.000  B  checkpoint issues_found timeout=60
        0:44.000  B  checkpoint files_read timeout=60
        1:20.000  A  progress 10
    """,
    "behind oneself": """
        heartbeat_ms 10000
        rules 0
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  A  write src/c.py hold=20 timeout=60 then=src/**
        0:05.000  B  write src/** hold=5 timeout=60
        0:40.000  A  progress 10
    """,
    "costly work": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  intruder  bomb A
        0:02.500  intruder  bomb B
        0:03.000  intruder  bomb A
        0:03.500  intruder  bomb B
        0:04.000  intruder  bomb A
        0:04.500  intruder  bomb B
        0:06.000  A  progress 10
    """,
    "ended by somebody else": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:02.000  A  write a.py hold=30 timeout=60
        0:05.000  intruder  ended A
        0:08.000  intruder  ended A
        0:40.000  A  progress 10
    """,
    "a question to an agent that ends": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  A  ask to=B timeout=60
        0:06.000  B  complete
        0:10.000  A  progress 10
    """,
    "a wait that ends": """
        heartbeat_ms 10000
        0:00.000  A  start produces=d1
        0:00.000  B  start
        0:02.000  B  wait d1 timeout=60
        0:05.000  A  resolve d1
        0:10.000  B  progress 10
    """,
    "a deadlock that ends": """
        heartbeat_ms 10000
        rules 0
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  A  write a.py hold=8 timeout=20 then=b.py
        0:02.000  B  write b.py hold=8 timeout=60 then=a.py
        1:00.000  A  progress 10
    """,
    "waiting for each other": """
        heartbeat_ms 10000
        rules 0
        0:00.000  A  start produces=d1
        0:00.000  B  start produces=d2
        0:02.000  A  wait d2 timeout=20
        0:02.000  B  wait d1 timeout=40
        1:00.000  A  progress 10
    """,
    "the clock is put back": """
        heartbeat_ms 10000
        orchestrators 2
        0:00.000  A  start
        0:10.000  orchestrator-2  kill
        0:11.000  server  clock -600
        2:40.000  A  progress 10
    """,
    "replies lost": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:02.000  A  lose 6
        0:02.500  A  progress 10
        0:03.000  A  progress 20
        0:20.000  A  lose 3
        0:21.000  A  progress 30
        0:40.000  A  progress 40
    """,
    "a grant taken away": """
        heartbeat_ms 10000
        rules 3
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  A  write a.py hold=60 timeout=60
        0:05.000  B  write a.py hold=2 timeout=60
        1:10.000  A  progress 10
    """,
    "an agent hangs": """
        heartbeat_ms 10000
        rules 2
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  A  write only-A hold=500 timeout=60
        0:19.000  B  write only-A hold=1 timeout=480
        5:20.000  server  hang A B only-A
    """,
    "cut off in part": """
        heartbeat_ms 10000
        rules 0
        0:00.000  A  start
        0:00.000  B  start
        0:00.000  C  start
        0:00.000  D  start
        0:02.000  A  write only-A hold=900 timeout=60
        0:02.000  B  write only-B hold=900 timeout=60
        0:02.000  C  write only-C hold=900 timeout=60
        0:20.000  D  write only-A,only-B,only-C hold=1 timeout=800
        0:59.000  A  cut 600
        0:59.000  B  cut 600
        0:59.000  C  cut 600
        10:40.000  operator  decide
    """,
    "a deadline passes": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  A  ask id=q1 deadline=10 timeout=60
        0:04.000  B  wait q1 timeout=60
        0:30.000  B  ask deadline=10 default=one timeout=60
        1:00.000  A  progress 10
    """,
    "a task tried again": """
        heartbeat_ms 10000
        0:00.000  A  start task=t1
        0:02.000  A  fail
        0:04.000  A  start task=t1
        0:06.000  A  fail
        0:08.000  A  start task=t1
        0:10.000  A  fail
        0:12.000  A  start task=t1
        0:14.000  A  progress 10
        0:16.000  B  start task=t1
        0:18.000  B  progress 10
    """,
    "an integration during a wait": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:00.000  B  start
        0:00.000  C  start
        0:02.000  B  wait d1 timeout=60
        0:05.000  A  integrate release hold=2 timeout=50
        0:05.500  C  integrate fixes hold=2 timeout=50
        0:20.000  A  resolve d1
    """,
    "an agent leaps": """
        heartbeat_ms 10000
        0:00.000  A  start
        0:00.000  B  start
        0:02.000  intruder  leap A
        0:03.000  intruder  leap B
        0:04.000  intruder  leap A
        0:05.000  intruder  leap B
        0:06.000  intruder  leap A
        0:20.000  A  progress 10
    """,
    "all cut off": """
        heartbeat_ms 10000
        rules 0
        0:00.000  A  start
        0:00.000  B  start
        0:00.000  C  start
        0:02.000  A  write only-A hold=300 timeout=60
        0:05.000  B  write only-A hold=1 timeout=290
        1:00.000  server  fleet 150
        3:40.000  operator  decide
    """,
    "two want one task": """
        heartbeat_ms 10000
        0:00.000  A  start task=t1
        0:03.000  B  start task=t1
        0:05.000  B  progress 10
        0:10.000  A  complete
        0:14.000  B  start task=t1
        0:20.000  B  progress 10
    """,
}


def fits(name: str, settings: dict[str, int]) -> bool:
    """Whether a plan's settings are those that a scene needs."""
    return all(settings[one] == value for one, value in _read(name)[0].items())


def lines(name: str, at_s: float, chance: random.Random) -> list[Line]:
    """Return the lines of a scene that begins at a time: its agents start anew."""
    told = _read(name)[1]
    ends = [Line(at_s, one.who, "kill") for one in told if one.verb == "start"]
    return ends + [
        replace(line, at_s=round(at_s + 1 + line.at_s + chance.uniform(0, LATE_S_MAX), 3))
        for line in told
    ]


def plan(name: str, seed: int) -> Plan:
    """Return the plan that is one scene only."""
    chance = random.Random(f"{seed}/{name}")
    settings = {setting: chance.choice(values) for setting, values in OPEN.items()}
    told = lines(name, 0.0, chance)
    given = {"seed": seed} | settings | _read(name)[0]
    return Plan(given, tuple(sorted(told, key=lambda line: line.at_s)))


def _read(name: str) -> tuple[dict[str, int], tuple[Line, ...]]:
    """Return the settings that a scene needs, and its lines."""
    told = read(f"seed 0\n{dedent(SCENES[name])}")
    del told.settings["seed"]
    return told.settings, told.lines
