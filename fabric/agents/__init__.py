"""Coding agents and commands as agents of the fabric.

`fabric run` starts one, and reads what it prints (`run.py`, `child.py`, `warden.py`, `output.py`).
The hooks of the clients do the rest:

    client ── hook.py ── unix socket ── daemon ── Redis
                             one per user and host: connections, inboxes, claims, heartbeats

`hook.py` only carries bytes, so that it costs a client a few milliseconds. The daemon reads an
event (`dialect/`), does what it asks for (`member.py`), decides (`decision.py`, pure) and puts the
answer into that client's words (`dialect/` again). An idle client is woken (`wake.py`); a run of
Claude Code that has to wait ends, and is resumed at its turn (`defer.py`).
"""
