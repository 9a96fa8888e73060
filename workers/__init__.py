"""The daemons: orchestrator and synthesizer, two handlers of one loop.

`replica.py` shares the partitions out, `lease.py` holds one, `loop.py` reads, decides and commits.
"""
