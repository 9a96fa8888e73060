"""Why an agent stands where it stands, told from a session's log (`fabric why`).

`explanation.py` begins; `log_index.py` keeps what the log says of each agent; the other files
follow the causes: `blame.py` across waits, `gathering.py` at barriers, `standstill.py` round
deadlocks, `state.py` at the agent itself.
"""
