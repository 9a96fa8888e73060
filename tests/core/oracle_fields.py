"""What the fields of typed findings must be, merged over the agents whose statements hold."""

from __future__ import annotations

from typing import Any

from tests.core.findings import Event, Rules
from tests.core.oracle import ORDER, judged, said_in, spoken, typed
from tests.core.oracle_values import whole


def fields_of(history: list[Event], rules: Rules) -> dict[str, Any]:
    """Return the merged typed fields of each finding that holds: key → fields."""
    judged_parts, found = judged(history, rules), {}
    for part, words in spoken(history, rules).items():
        if not part.startswith("findings:"):
            continue
        said = []
        for agent, word in words.items():
            if judged_parts[part]["says"][agent][1] != "holds":
                continue
            (one,) = [
                one
                for event in history
                if (event.agent, event.log) == (agent, word[2])
                for one in _findings_of(event)
                if part in said_in(event._replace(partial={"findings": [one]}, result=None), rules)
            ][-1:]
            said.append((one.get("confidence", 0), agent, typed(one)))
        merged: dict[str, Any] = {}
        for _, _, fields in sorted(said, key=lambda one: (-one[0], one[1])):
            for name, value in fields.items():
                if name == "severity" and name in merged:
                    merged[name] = min(merged[name], value, key=ORDER.index)
                elif name in ("same_as", "distinct_from") and name in merged:
                    merged[name] = sorted({*merged[name], *value})
                elif name == "data":
                    merged[name] = {**value, **merged.get(name, {})}
                else:
                    merged.setdefault(name, value)
        if merged:
            found[part.partition(":")[2]] = whole(merged)
    return found


def _findings_of(event: Event) -> list[dict[str, Any]]:
    body = event.partial if event.partial is not None else event.result
    found: list[dict[str, Any]] = body["findings"]
    return found
