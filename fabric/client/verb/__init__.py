"""What stands behind an agent's verbs: requests that wait for an answer, grants, pauses, barriers.

`voice.py` speaks; `request.py` matches answers, and refusals, to what waits for them. On top of the
two there is a file for each kind of wait: `wait.py`, `grant.py`, `pause.py`, `integration.py`,
`enquiry.py`. `agent.py`, one folder up, has the verbs themselves.
"""
