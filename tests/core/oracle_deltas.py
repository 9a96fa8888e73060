"""What places with deltas must say: each agent's value, changed by what it said later."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tests.core.findings import Event, Rules
from tests.core.oracle import Word, merge_of, operator_in, place, spoken
from tests.core.oracle_values import amount, is_number, joined, reduced, table, text


def changed(words: dict[str, Word], own: dict[str, list[tuple[int, int, str, Any]]]) -> Any:
    """Return what each agent says at a place with deltas."""
    found = {agent: amount(word[0]) for agent, word in words.items()}
    for agent, said in own.items():
        value = found.get(agent)
        for _, _, operator, given in sorted(said, key=lambda one: one[:2]):
            if operator == "$add":
                value = (value if isinstance(value, Fraction) else exact(value)) + Fraction(given)
            elif operator == "$text":
                value = (value if isinstance(value, str) else "") + given
            elif operator == "$append":
                value = [*(value if isinstance(value, list) else []), given]
            else:
                kept = value if isinstance(value, list) else []
                value = [item for item in kept if text(item) != text(given)]
        if isinstance(value, Fraction):
            value = int(value) if value.denominator == 1 and abs(value) < 2**63 else float(value)
        found[agent] = value
    return found


def exact(value: Any) -> Fraction:
    return Fraction(value) if is_number(value) else Fraction(0)


def with_deltas(history: list[Event], rules: Rules) -> dict[str, Any]:
    """Return the whole value of each place that has deltas and nothing else: pointer → value."""
    said = spoken(history, rules)
    living = [part for part, words in said.items() if words and not part.startswith("findings:")]
    found = {}
    for pointer in {place(part) for part in living if operator_in(part)}:
        inside = [part for part in living if place(part).startswith(f"{pointer}/")]
        others = [
            part
            for part in living
            if place(part) == pointer and part.startswith("items:") and not operator_in(part)
        ]
        if inside or others:
            continue
        own: dict[str, list[tuple[int, int, str, Any]]] = {}
        for part in living:
            if place(part) == pointer and (operator := operator_in(part)):
                ((agent, word),) = said[part].items()
                order = (word[2], int(part.rpartition(".")[2]))
                own.setdefault(agent, []).append((*order, operator, word[0]))
        merge = merge_of(pointer, rules)
        values = changed(said.get(f"document:{pointer}", {}), own)
        if all(isinstance(value, list) for value in values.values()):
            is_table = merge is not None and merge.reducer == "rows" and merge.key
            key = merge.key if merge is not None else ""
            lists = [values[agent] for agent in sorted(values)]
            found[pointer] = table(values, key) if is_table else joined(lists)
        elif all(map(is_number, values.values())):
            name = merge.reducer if merge is not None else "sum"
            name = name if name in ("mean", "max", "min") else "sum"
            found[pointer] = reduced(name, list(values.values()))[1]
        else:
            found[pointer] = values
    return found
