"""Users' own code in the fabric: reducers and refiners, found by their entry points.

A reducer (`fabric.reducers`) makes one value of several, which it gets in the order of the agents'
names; it must not depend on anything else, so that the same results make the same synthesis. A
refiner (`fabric.refiners`) makes something of the whole document. It runs in processes of its own,
so this module only looks whether it is installed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from fabric.core.rules import Rules
from fabric.core.synthesis.merge import KNOWN, Reducer
from workers.refiner import GROUP

logger = logging.getLogger("fabric.extension")

#: Group of the entry points that are reducers.
REDUCERS: Final = "fabric.reducers"


def reducers(rules: Rules) -> dict[str, Reducer]:
    """Load the reducers that the rules name, but the built-in ones; what fails is logged."""
    loaded: dict[str, Reducer] = {}
    named = {merge.reducer for merge in rules.merges if merge.reducer} - KNOWN
    for name, entry_point in _installed(REDUCERS, sorted(named)).items():
        try:
            loaded[name] = entry_point.load()
        except Exception:
            logger.exception("%s of %s cannot be loaded", name, REDUCERS)
    return loaded


def refiners(rules: Rules) -> list[str]:
    """Return the names of the installed refiners that the rules name, in the rules' order."""
    return list(_installed(GROUP, rules.refiners))


def _installed(group: str, names: Iterable[str]) -> dict[str, EntryPoint]:
    known = {one.name: one for one in entry_points(group=group)}
    found = {}
    for name in names:
        if name in known:
            found[name] = known[name]
        else:
            logger.error(
                "the rules name %s, and no package installed here has it in %s", name, group
            )
    return found
