"""What a field of a payload may be: names, percentages, counts, each with its bounds."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from fabric.core.limits import COUNTER_MAX, LIST_ITEMS_MAX, NAME_CHARS_MAX

#: No control characters: names stand in keys, tables and terminals.
Name = Annotated[
    str, Meta(min_length=1, max_length=NAME_CHARS_MAX, pattern=r"^(?![\s\S]*[\x00-\x1f\x7f-\x9f])")
]
Names = Annotated[list[Name], Meta(max_length=LIST_ITEMS_MAX)]
Percent = Annotated[int, Meta(ge=0, le=100)] | Annotated[float, Meta(ge=0, le=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=COUNTER_MAX)]
#: Any whole number that every reader can count exactly.
Whole = Annotated[int, Meta(ge=-COUNTER_MAX, le=COUNTER_MAX)]
Milliseconds = Count
