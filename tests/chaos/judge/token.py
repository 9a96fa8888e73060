"""Tokens: every grant of a session has a larger fencing token than the grant before."""

from collections.abc import Iterator

from tests.chaos.evidence import Evidence


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each grant whose token is not larger."""
    for session in evidence.sessions:
        highest = 0
        holders: dict[int, str] = {}
        for entry in evidence.log(session):
            if entry.fields.get("type") != "PROCEED":
                continue
            token, agent = entry.payload.get("token"), entry.fields["to"]
            if not isinstance(token, int) or holders.get(token) == agent:
                continue
            if token <= highest:
                yield f"{session} {entry.id}: token {token} to {agent} after {highest}"
            highest = max(highest, token)
            holders[token] = agent
