"""A model that adds a line to each of several files, as a careful one would: read, write, look.

It writes whole files, made of the lines that it has read and its own, so another agent's line that
was added in between is lost: that is what the fabric is to prevent. It keeps nothing in mind but
the conversation: what it does next follows from the results of its tools.

    read a file     its own line is there → the next file
                    else → write all lines that were read, and its own
    write a file    → read it again, whether the write was refused or not

The first write of a file waits until all who edit it have read it: so they collide on purpose.
"""

from __future__ import annotations

import re
from typing import Any

#: A line of the files: the client, the round, and the number of the file.
LINE = re.compile(r"line-[a-z]+-r\d+-f\d+")

#: Tries for one file: a refused write is tried again.
TRIES_MAX = 40

Json = dict[str, Any]


def turn(script: Json, results: list[str]) -> Json:
    """Return the next answer; `results` are those of the tools, one text for each answer so far."""
    place, tries, is_read = 0, 0, True
    edits = script["edits"]
    pending: list[str] = []
    for text in results:
        if place >= len(edits):
            break
        if not is_read:  # a write: look whether it is there
            is_read = True
            continue
        seen = list(dict.fromkeys(LINE.findall(text)))
        if edits[place]["line"] in seen or tries >= TRIES_MAX:
            place, tries, pending = place + 1, 0, []
            continue
        pending, is_read, tries = seen, False, tries + 1
    if place >= len(edits):
        return {"text": "done"}
    one = edits[place]
    if is_read:
        return {"tools": [_filled(script["read"], one["path"], "", [])]}
    lines = [*pending, one["line"]]
    written = _filled(script["write"], one["path"], "\n".join(lines) + "\n", pending)
    meeting = {"meet": one["path"]} if tries == 1 else {}
    return {"tools": [written], **meeting}


def _filled(template: Any, path: str, text: str, seen: list[str]) -> Any:
    """Return a call of a tool with its path and text; a patch replaces what was seen."""
    if isinstance(template, dict):
        return {name: _filled(value, path, text, seen) for name, value in template.items()}
    if not isinstance(template, str):
        return template
    old = "".join(f"-{line}\n" for line in seen)
    new = "".join(f"+{line}\n" for line in text.splitlines())
    filled = template.replace("{path}", path).replace("{text}", text)
    return filled.replace("{patch}", f"{old}{new}")
