"""Simulation: the real core, workers and client on simulated time, network and server.

One seed is one run, repeated to the byte. A run has a *plan* (`plan.py`: what agents do and what
goes wrong, as lines of text), a *world* that carries it out (`world.py`), and *judges* (`judge/`)
that look at every commit and at what is left in the end. `timeline.py` is the time, `loop.py` one
process, `server.py` and `network.py` what lies between them. After FoundationDB's simulation and
TigerBeetle's VOPR.
"""
