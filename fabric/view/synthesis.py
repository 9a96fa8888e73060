"""A synthesis as a person reads it: `print` shows a summary, a notebook the whole report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fabric.core.limits import VALUE_SHOWN_CHARS_MAX, listed
from fabric.core.synthesis.state import Standing, State
from fabric.errors import TamperedError
from fabric.view.change import CHANGE_CHARS_MAX, holding, said, sides
from fabric.view.document import Document, progress
from fabric.view.report import report
from fabric.view.text import plain
from fabric.view.value import flat
from fabric.wire.stored import checked_reading, shortened

#: Findings that a summary shows; the report has all of them.
SUMMARY_LINES_MAX = 20


class Synthesis(Document):
    """A synthesis at one revision: `print` shows a summary, a notebook the whole report.

    `document` is the official document as the patches make it; the other attributes are views of
    it, made when first used. `key` is the key it was read from: a view raises TamperedError,
    naming the key, if somebody else wrote there.
    """

    def __str__(self) -> str:
        return "\n".join(_or_error(lambda: summary(self)))

    def __repr__(self) -> str:
        return f"<{' '.join(_or_error(lambda: [_named(self)]))}>"

    def _repr_markdown_(self) -> str:
        """Return the report: a notebook shows it for a cell that ends with a synthesis."""
        return "\n".join(_or_error(lambda: report(self, self.session)))


def _or_error(make: Callable[[], list[str]]) -> list[str]:
    """Return lines; the error in their place if a key was tampered with, so that `print` works."""
    try:
        return make()
    except TamperedError as error:
        return [str(error)]


def _named(synthesis: Synthesis) -> str:
    state = "final" if synthesis.is_final else "not final"
    return f"Synthesis of {synthesis.session!r}: revision {synthesis.revision}, {state}"


def summary(synthesis: Synthesis) -> list[str]:
    """Return its progress, open contradictions, then findings, in short. Raises TamperedError."""
    with checked_reading(synthesis.key, "synthesis"):
        lines = [
            f"  contradiction over {_line(one.part)}: {sides(one, _json, plain)}"
            for one in synthesis.contradictions.values()
        ]
        for found in synthesis.findings.values():
            if found.state in (State.AGREED, State.DECIDED):
                by = listed([plain(one.agent) for one in holding(found.sources)]) or found.state
                lost = [one for one in found.sources if one.standing is Standing.OVERRULED]
                overruled = listed([f"{_json(one.value)} of {plain(one.agent)}" for one in lost])
                by += f"; by the rule {found.policy}, not {overruled}" if lost else ""
                lines.append(f"  {_line(found.key)}: {_json(said(found))} ({by})")
    of = f"Synthesis of {plain(synthesis.session)}. " if synthesis.session else ""
    if (more := len(lines) - SUMMARY_LINES_MAX) > 0:
        lines[SUMMARY_LINES_MAX:] = [f"  and {more} more"]
    return [of + progress(synthesis), *lines]


def _line(name: str) -> str:
    return shortened(plain(name), CHANGE_CHARS_MAX)


def _json(value: Any) -> str:
    return plain(flat(value, VALUE_SHOWN_CHARS_MAX))
