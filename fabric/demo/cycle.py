"""Cycles of a directed graph, each named in order. Pure, deterministic, without recursion."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Graph = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Cycle:
    """A shortest cycle through the first member of a knot, and how many members the whole knot has.

    In a knot every node reaches every other; one cycle of it is what a person can follow and cut.
    """

    path: tuple[str, ...]
    members: int


def cycles(graph: Graph) -> list[Cycle]:
    """Return one shortest cycle for each knot of two or more nodes, ordered by their first nodes.

    A cycle starts at the smallest node of its knot; an edge from a node to itself is no cycle.
    """
    found = []
    for knot in components(graph):
        if len(knot) > 1:
            found.append(Cycle(_shortest(graph, sorted(knot)), len(knot)))
    return sorted(found, key=lambda cycle: cycle.path)


def components(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components (R. Tarjan, "Depth-first search and linear graph
    algorithms").
    """
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stacked: set[str] = set()
    stack: list[str] = []
    found: list[list[str]] = []
    for root in sorted(graph):
        if root in number:
            continue
        pending = [(root, iter(sorted(graph[root])))]
        number[root] = low[root] = len(number)
        stack.append(root)
        stacked.add(root)
        while pending:
            node, below = pending[-1]
            following = next(
                (
                    item
                    for item in below
                    if item in graph and _visit(item, node, number, low, stacked)
                ),
                None,
            )
            if following is not None:
                number[following] = low[following] = len(number)
                stack.append(following)
                stacked.add(following)
                pending.append((following, iter(sorted(graph[following]))))
                continue
            pending.pop()
            if pending:
                parent = pending[-1][0]
                low[parent] = min(low[parent], low[node])
            if low[node] == number[node]:
                found.append(_cut(stack, stacked, node))
    return found


def _visit(
    item: str, node: str, number: dict[str, int], low: dict[str, int], stacked: set[str]
) -> bool:
    """Tell whether `item` has to be entered from `node`; note a way back when it has been."""
    if item not in number:
        return True
    if item in stacked:
        low[node] = min(low[node], number[item])
    return False


def _cut(stack: list[str], stacked: set[str], node: str) -> list[str]:
    component: list[str] = []
    while not component or component[-1] != node:
        component.append(stack.pop())
        stacked.discard(component[-1])
    return component


def _shortest(graph: Graph, knot: list[str]) -> tuple[str, ...]:
    """Return a shortest cycle through the first node of `knot`, by breadth-first search."""
    start, members = knot[0], set(knot)
    before: dict[str, str] = {}
    pending = deque([start])
    while pending:
        node = pending.popleft()
        for following in sorted(graph[node]):
            if following == start and node != start:
                path = [node]
                while path[-1] != start:
                    path.append(before[path[-1]])
                return tuple(reversed(path))
            if following in members and following not in before and following != start:
                before[following] = node
                pending.append(following)
    return tuple(knot)
