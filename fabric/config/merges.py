"""Rules of a sound file on merging that do nothing: dead paths, reducers that are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Final

from fabric.config.toml_file import Fault, Keys, line_of
from fabric.core import resource
from fabric.core.policy import Comparison, ContradictionPolicy
from fabric.core.rule_table import Merge, Same
from fabric.core.synthesis import merge

#: Group of the entry points that are reducers.
REDUCERS: Final = "fabric.reducers"

#: Comparisons that have a tolerance.
_MEASURED: Final = (Comparison.NUMBER, Comparison.QUANTITY, Comparison.DATE)

#: The member of a partial result that is no part of the document.
_FINDINGS: Final = "findings"


def idle_merges(merges: Sequence[Merge], lines: Mapping[Keys, int]) -> Iterator[Fault]:
    """Yield a fault for each merge rule that can match nothing, or has no reducer here."""
    installed = {one.name for one in entry_points(group=REDUCERS)}
    for index, one in enumerate(merges):
        where = f"synthesis.merges[{index}]"

        def at(name: str, index: int = index) -> int:
            return line_of(("synthesis", "merges", index, name), lines)

        if one.reducer and one.reducer not in merge.KNOWN and one.reducer not in installed:
            what = f'"{one.reducer}", which no package installed here has in {REDUCERS}'
            fix = f"one of {', '.join(sorted(merge.KNOWN))}, or install its package"
            yield Fault(at("reducer"), f"{where}.reducer", what, fix)
        if not (one.reducer or one.compare or one.policy is not ContradictionPolicy.ASK):
            fix = f"one of {', '.join(sorted(merge.KNOWN))}, or `compare`, or `policy`"
            yield Fault(at("path"), f"{where}.reducer", "nothing", fix)
        yield from _idle_agreement(one, where, at)
        why = _why_dead(one, merges[:index])
        if why:
            fix = "a path of the document, such as /metrics/*/latency"
            yield Fault(at("path"), f"{where}.path", f'"{one.path}", {why}', fix)
        if one.reducer == merge.ROWS and not one.key:
            what = "nothing, so every row is a row of its own"
            yield Fault(at("reducer"), f"{where}.key", what, "the member that tells rows apart")
        if one.key and one.reducer != merge.ROWS:
            what = f'"{one.key}", which only the reducer "rows" reads'
            yield Fault(at("key"), f"{where}.key", what, 'no key, or reducer = "rows"')


def idle_same(rules: Sequence[Same], lines: Mapping[Keys, int]) -> Iterator[Fault]:
    """Yield a fault for what a rule about findings that are one says in vain."""
    for index, one in enumerate(rules):
        for name, field in (("lines", "path"), ("aliases", "rule")):
            where = ("synthesis", "same", index, name)
            if field not in one.by and where in lines:
                what = f'something that counts only where findings share the "{field}"'
                fix = f'"{field}" in `by`, or no {name}'
                yield Fault(lines[where], f"synthesis.same[{index}].{name}", what, fix)


def _idle_agreement(one: Merge, where: str, at: Callable[[str], int]) -> Iterator[Fault]:
    """Yield a fault for what a rule says about contradictions where there are none."""
    if one.reducer not in ("", merge.AGREE):
        for name, is_given in (
            ("compare", one.compare is not Comparison.DEFAULT),
            ("policy", one.policy is not ContradictionPolicy.ASK),
        ):
            if is_given:
                what = f'"{getattr(one, name)}", which only the reducer "agree" reads'
                yield Fault(at(name), f"{where}.{name}", what, 'reducer = "agree", or none')
    if one.tolerance and one.compare not in _MEASURED:
        what = f"{one.tolerance}, which only some comparisons read"
        fix = "compare = " + " or ".join(f'"{name}"' for name in _MEASURED)
        yield Fault(at("tolerance"), f"{where}.tolerance", what, fix)


def _why_dead(rule: Merge, earlier: Sequence[Merge]) -> str:
    """Say why a path can match nothing; "" if it can."""
    path = rule.path
    tokens = path.split("/")
    if tokens[1] == _FINDINGS and rule.reducer not in ("", merge.AGREE):
        return "which matches nothing: findings are merged by their keys, not by reducers"
    if path != "/" and path.endswith("/"):
        return 'which only matches a member named ""'
    for one in earlier:
        is_same = one.path == "/**" or one.path == path
        if is_same or (not resource.is_glob(path) and resource.read_glob(one.path).accepts(tokens)):
            return f'which matches nothing: "{one.path}" stands before it and matches it first'
    return ""
