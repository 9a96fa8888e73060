"""The report as a page of HTML: complete, harmless, and as wide as the window."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from fabric.view.page import page
from fabric.view.report import no_code
from fabric.view.selection import Group, select
from fabric.view.synthesis import Synthesis
from tests.support.folding import Folding
from tests.view.test_interchange import FINDINGS, HOSTILE, synthesis

#: Everything that a page may have of its own.
TAGS = {
    *("html", "meta", "title", "style", "h1", "h2", "h3", "p", "b", "s", "br", "ul", "li", "pre"),
    *("table", "tr", "th", "td"),
}


class Tags(HTMLParser):
    """Collects the tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def made(found: Synthesis, by: Group = Group.FILE, **options: Any) -> str:
    return page(found, "demo", select(found), by, no_code, **options)


@pytest.mark.parametrize("by", Group)
def test_a_page_has_every_finding_in_its_group(by: Group) -> None:
    text = made(synthesis(*FINDINGS), by)
    assert text.count("<tr><td class=") == (5 if by is Group.AGENT else 4)


def test_a_page_has_what_failed_what_is_open_and_what_is_gone_with_the_reason() -> None:
    folding = Folding()
    folding.find("A", "port", 1)
    folding.find("B", "port", 2)
    folding.find("A", "old", 1)
    withdrawn = {"key": "old", "withdrawn": True, "evidence": "it was\na test"}
    folding.say("A", {"findings": [withdrawn]})
    folding.say("C", kind="FAILED", payload={"error": "out of\nmemory"})
    folding.say("A", {"n": 3, "summary": "two\nlines"})
    refined = {"refiner": "brief", "value": "<b>all</b>", "revision": 1}
    folding.say("SYNTHESIZER", kind="REFINED", payload=refined)
    text = made(Synthesis(folding.document()))
    assert '<p class="failed"><b>C failed</b> out of<br>memory</p>' in text
    assert "<li><b>1</b>: A</li>\n<li><b>2</b>: B</li>" in text
    assert "<li><s>old</s> withdrawn by A (&quot;it was a test&quot;)</li>" in text
    assert "<h3>n</h3><pre>3</pre>" in text
    assert "<h3>summary</h3><pre>A: two\nlines</pre>" in text
    assert "<h3>brief</h3><pre>&lt;b&gt;all&lt;/b&gt;</pre>" in text
    assert "<s>old</s>" not in made(Synthesis(folding.document()), is_whole=False)


@pytest.mark.parametrize("text", [*HOSTILE, "<img src=x onerror=alert(1)>", "'\" onload=x", "\r"])
def test_what_agents_write_is_never_markup(text: str) -> None:
    given = {"path": f"p{text}", "rule": text, "title": text, "message": text, "suggestion": text}
    found = synthesis(("A", {**given, "key": f"k{text}"}), ("B", {"key": text, "value": text}))
    shown = made(found)
    tags = Tags(shown)
    assert tags.tags <= TAGS
    assert tags.names <= {"lang", "charset", "class"}
    # Nothing that a reader cannot see, or that turns the text around.
    assert re.sub(r"[\n\t]", "", shown).isprintable()
