"""Merge rules of a sound file that can do nothing: dead paths, and reducers that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Final

from fabric.config.toml_file import Fault, Keys, line_of
from fabric.core import resource
from fabric.core.rule_table import Merge
from fabric.core.synthesis import merge

#: Group of the entry points that are reducers.
REDUCERS: Final = "fabric.reducers"

#: The member of a partial result that is no part of the document.
_FINDINGS: Final = "findings"


def idle_merges(merges: Sequence[Merge], lines: Mapping[Keys, int]) -> Iterator[Fault]:
    """Yield a fault for each merge rule that can match nothing, or has no reducer here."""
    installed = {one.name for one in entry_points(group=REDUCERS)}
    for index, one in enumerate(merges):
        where = f"synthesis.merges[{index}]"

        def at(name: str, index: int = index) -> int:
            return line_of(("synthesis", "merges", index, name), lines)

        if one.reducer not in merge.KNOWN and one.reducer not in installed:
            what = f'"{one.reducer}", which no package installed here has in {REDUCERS}'
            fix = f"one of {', '.join(sorted(merge.KNOWN))}, or install its package"
            yield Fault(at("reducer"), f"{where}.reducer", what, fix)
        why = _why_dead(one.path, merges[:index])
        if why:
            fix = "a path of the document, such as /metrics/*/latency"
            yield Fault(at("path"), f"{where}.path", f'"{one.path}", {why}', fix)
        if one.reducer == merge.ROWS and not one.key:
            what = "nothing, so every row is a row of its own"
            yield Fault(at("reducer"), f"{where}.key", what, "the member that tells rows apart")
        if one.key and one.reducer != merge.ROWS:
            what = f'"{one.key}", which only the reducer "rows" reads'
            yield Fault(at("key"), f"{where}.key", what, 'no key, or reducer = "rows"')


def _why_dead(path: str, earlier: Sequence[Merge]) -> str:
    """Say why a path can match nothing; "" if it can."""
    tokens = path.split("/")
    if tokens[1] == _FINDINGS:
        return "which matches nothing: findings are merged by their keys, not by these rules"
    if path != "/" and path.endswith("/"):
        return 'which only matches a member named ""'
    for one in earlier:
        is_same = one.path == "/**" or one.path == path
        if is_same or (not resource.is_glob(path) and resource.read_glob(one.path).accepts(tokens)):
            return f'which matches nothing: "{one.path}" stands before it and matches it first'
    return ""
