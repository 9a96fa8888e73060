"""Findings about the nodes of a cluster: those that stand alike in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from fabric.doctor.diagnosis import Facts, Finding


def each(known: Mapping[str, Facts], judge: Callable[[Facts], Finding]) -> list[Finding]:
    """Judge every server; name the one that a finding is of, unless it is true of all."""
    alike: dict[Finding, list[str]] = {}
    for name, facts in known.items():
        alike.setdefault(judge(facts), []).append(name)
    if len(alike) == 1:
        return list(alike)
    return [
        replace(finding, found=f"{', '.join(names)}: {finding.found}")
        for finding, names in alike.items()
    ]
