"""Users' own code in the fabric: reducers and refiners, found by their entry points.

A reducer (`fabric.reducers`) makes one value of several, which it gets in the order of the agents'
names; it must not depend on anything else, so that the same results make the same synthesis. A
refiner (`fabric.refiners`) makes something of the whole document. It runs in processes of its own,
so this module only looks whether it is installed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from fabric.core.rules import Rules
from fabric.core.synthesis.reducer import KNOWN, Reducer
from workers.refiner import GROUP

logger = logging.getLogger("fabric.extension")

#: Groups of entry points.
REDUCERS: Final = "fabric.reducers"
REFINERS: Final = GROUP


def reducers(rules: Rules) -> dict[str, Reducer]:
    """Return the installed reducers that the rules name, except the built-in ones."""
    named = {merge.reducer for merge in rules.merges} - KNOWN
    return load(REDUCERS, named, entry_points(group=REDUCERS))


def refiners(rules: Rules) -> list[str]:
    """Return the names of the installed refiners that the rules name, in the rules' order."""
    known = {one.name for one in entry_points(group=REFINERS)}
    return [name for name in rules.refiners if _is_there(REFINERS, name, known)]


def load(group: str, names: Iterable[str], found: Iterable[EntryPoint]) -> dict[str, Any]:
    """Load entry points by name. One that is missing or fails to load is logged and left out."""
    known = {one.name: one for one in found}
    loaded: dict[str, Callable[..., Any]] = {}
    for name in sorted(names):
        if not _is_there(group, name, known):
            continue
        try:
            loaded[name] = known[name].load()
        except Exception:
            logger.exception("%s of %s cannot be loaded", name, group)
    return loaded


def _is_there(group: str, name: str, known: Container[str]) -> bool:
    if name in known:
        return True
    logger.error("the rules name %s, and no package installed here has it in %s", name, group)
    return False
