"""Which reducer a place of a document has: by the rule file, or else by what is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fabric.core import pattern
from fabric.core.rules import Merge
from fabric.core.synthesis import reducer

#: Places whose reducer is remembered. Emptied when full.
_REMEMBERED_MAX = 50_000


class Strategies:
    """The rules' reducers by place. A value is asked about where no rule matches."""

    def __init__(self, merges: Iterable[Merge] = ()) -> None:
        self._merges = [(pattern.read(merge.path), merge.reducer) for merge in merges]
        self._remembered: dict[str, str] = {}

    def of(self, pointer: str, value: Any) -> str:
        """Name the reducer of a place, given one of its values."""
        if self._merges:
            named = self._remembered.get(pointer)
            if named is None:
                named = self._find(pointer)
            if named:
                return named
        if isinstance(value, list):
            return reducer.UNION
        return reducer.SUM if reducer.is_number(value) else reducer.BY_SOURCE

    def _find(self, pointer: str) -> str:
        if len(self._remembered) >= _REMEMBERED_MAX:
            self._remembered.clear()
        tokens = pointer.split("/")
        named = next((name for path, name in self._merges if path.accepts(tokens)), "")
        self._remembered[pointer] = named
        return named
