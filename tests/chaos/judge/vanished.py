"""Vanished: a message that an agent has read is no longer in its stream."""

from collections.abc import Iterator

from tests.chaos.evidence import Evidence


def judge(evidence: Evidence) -> Iterator[str]:
    """Yield each message that was read and is gone."""
    for session, agent, lives in evidence.members():
        heard: dict[str, set[str]] = {"inbox": set(), "broadcast": set()}
        for line in (line for life in lives for line in life if line["at"] > evidence.flush[1]):
            if line["what"] == "received":
                heard[line["where"]].update(line["ids"])
        for where, ids in heard.items():
            name = f"inbox/{agent}" if where == "inbox" else where
            ids.difference_update(entry.id for entry in evidence.stream(session, name))
            yield from (f"{session} {agent}: {entry_id} of the {where}" for entry_id in sorted(ids))
