"""Simulation: the real core, workers and client on simulated time, network and server.

The same seed gives the same run, byte for byte. A run has a *plan* (`plan.py`: what agents do and
which faults happen, as lines of text), a *world* that executes it (`world.py`), and *judges*
(`judge/`) that check every commit and the final state. `timeline.py` is the time, `loop.py` a
process, `server.py` and `network.py` what connects them. Modelled on FoundationDB's simulation and
TigerBeetle's VOPR.
"""
