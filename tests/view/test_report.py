"""The report: complete, readable, bounded; and whatever agents write, it keeps its form."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from markdown_it import MarkdownIt

from fabric.view.report import Layout, report
from fabric.view.selection import Group, select
from fabric.view.synthesis import Synthesis
from fabric.view.value import outline
from tests.support.folding import Folding, entry

RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")

FINDING = {"path": "src/a.py", "line": 2, "rule": "r", "severity": "high", "message": "bad"}


def lines_of(*said: tuple[str, dict[str, Any]], layout: Layout | None = None) -> list[str]:
    folding = Folding()
    for agent, partial in said:
        folding.say(agent, partial)
    return report(Synthesis(folding.document()), "demo", layout=layout)


def found(**fields: Any) -> dict[str, Any]:
    return {"findings": [{**FINDING, **fields}]}


PR = Layout(folded=True, chars_max=60_000, command="fabric synthesis demo")


class Tree(HTMLParser):
    """Notes tags, the deepest nesting of folds, and the text outside of code and tags."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.comments: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += "" if "code" in self.open else data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def rendered(lines: list[str]) -> Tree:
    return Tree(RENDERER.render("\n".join(lines)))


HOSTILE = [
    "</details><script>alert(1)</script>", "--> <b>x</b>", "<!-- ",
    "```\n# heading\n", "~~~", "a|b",
    "\x1b[31mred", "\u202eleft", "@octocat #12 a@example.com", "![x](http://evil/x.png)", "\\",
    "`", "``", "o/r#1", "GH-1",
    "[x](javascript:alert(1))", "    <script>", "| a |\n|---|\n| b |", "text\n===",
    "- x\n  - y", "&lt;b&gt;",
    "```\n</details>\n<script>\n", "*" * 50, "\n\n\n", "<details>", "x\r\n</details>", "$x$",
    "`a`@b",
]  # fmt: skip


@pytest.mark.parametrize("layout", [PR, Layout()], ids=["pr", "markdown"])
@pytest.mark.parametrize("text", HOSTILE)
def test_what_agents_write_never_breaks_the_form(text: str, layout: Layout) -> None:
    name = re.sub(r"[^ -~]", " ", text).strip()
    lines = lines_of(
        ("A", found(message=text, title=text, suggestion=text, url=text, evidence=text)),
        ("B", found(message=f"other {text}", path=f"p{name}", rule=name)),
        ("A", {"findings": [{"key": f"k{name}", "value": text}, {"key": "v", "value": 1}]}),
        ("B", {"findings": [{"key": "v", "withdrawn": True, "evidence": text}]}),
        ("A", {"findings": [{"key": "v", "withdrawn": True, "evidence": text}]}),
        (
            "A",
            {name or "x": text, "rows": [{"a": text, "b": 1}], "deep": {"x": [text, {"y": text}]}},
        ),
        ("B", {name or "x": f"other {text}"}),
        layout=layout,
    )
    tree = rendered(lines)
    # Only our own markup is there, and every fold is closed.
    assert not tree.open
    assert set(tree.tags) <= {
        "h1", "h2", "h3", "p", "ul", "li", "strong", "code", "pre", "table", "thead", "tbody", "tr",
        "th", "td", "br", "details", "summary", "s",
    }  # fmt: skip
    assert len(tree.comments) == layout.folded
    assert tree.tags.count("h2") == (3 if layout.folded else 4) - layout.folded
    assert not re.search(r"@\w|(?<!\w)#\d", tree.text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", "\n".join(lines))


def test_text_keeps_its_lines_and_its_code_and_is_cut_between_words() -> None:
    message = "First line.\nSecond `line`.\n\n```python\nx = 1\n```\nThe end."
    lines = lines_of(("A", found(message=message)))
    at = next(number for number, line in enumerate(lines) if line.startswith("- **high**"))
    assert lines[at : at + 11] == [
        "- **high** `src/a.py:2` `r`: First line.\\", "  Second `line`.", "",
        "  ```python", "  x = 1", "  ```", "", "  The end.", "", "  A", "",
    ]  # fmt: skip
    words = "word " * 2_000
    shown = "\n".join(lines_of(("A", found(message=words)), ("A", {"t": words, "u": {"v": words}})))
    assert not re.search(r"\bw(o(r)?)?…", shown)
    assert "\\n" not in shown + "\n".join(
        lines_of(("A", {"t": "a\nb", "l": ["c\nd", {"e": "f\ng"}]}))
    )


def test_rows_are_a_table_and_what_names_a_row_comes_first() -> None:
    rows = [{"ms": 3, "name": "a|b"}, {"ms": 5, "name": "c", "ok": {"A": True, "B": False}}]
    assert list(outline(rows)) == [
        "| name | ms | ok |", "| --- | --- | --- |",
        "| a\\|b | 3 |  |", "| c | 5 | A: true, B: false |",
    ]  # fmt: skip
    assert list(outline([{"a": [1]}])) == ["- item 1:", "  - `a`:", "    - `1`"]


def test_other_words_for_a_finding_stand_beside_the_surest() -> None:
    lines = lines_of(("A", found(confidence=0.9)), ("B", found(message="worse")), ("C", found()))
    assert "- **high** `src/a.py:2` `r`: bad · A (90% sure), B, C · 3 of 3 agents" in lines
    assert "  - B: worse" in lines


def test_fields_that_no_finding_has_are_shown_too() -> None:
    lines = lines_of(("A", found(owner="ann", tags=["x"], source="ruff")))
    at = lines.index("- **high** `src/a.py:2` `r`: bad · A · ruff")
    assert lines[at + 1 : at + 3] == ['  - `owner`: `"ann"`', '  - `tags`: `["x"]`']
    keyed = lines_of(("A", {"findings": [{"key": "k", "value": 1, "owner": "ann"}]}))
    assert "- `k`: 1 · A" in keyed


def test_each_finding_that_is_gone_has_its_reason() -> None:
    folding = Folding()
    new = {"findings": [{"key": "new", "value": 2, "supersedes": "replaced"}]}
    folding.say("A", {"findings": [{"key": "stale", "value": 1}]})
    for key in ("replaced", "took back"):
        folding.say("B", {"findings": [{"key": key, "value": 1}]})
    withdrawn = {"key": "took back", "withdrawn": True, "evidence": "it was\na test"}
    folding.say("B", {"findings": [withdrawn]})
    folding.take([entry("A", 10, kind="STARTED", incarnation=2)])
    folding.take([entry("A", 11, new, incarnation=2)])
    lines = report(Synthesis(folding.document()), "demo")
    gone = [line for line in lines if line.startswith("- ~~")]
    assert [re.sub(r" · \d.*", "", line) for line in gone] == [
        "- ~~`replaced`~~ superseded by `new` of A",
        "- ~~`stale`~~ A has started again and has not repeated it",
        "- ~~`took back`~~ withdrawn by B (it was a test)",
    ]


def code(path: str, line: int, end_line: int) -> list[str]:
    return ["```", f"line {line} of {path}"]


def test_code_of_the_file_stands_in_a_longer_fence() -> None:
    lines = lines_of(("A", found()), layout=PR._replace(code=code))
    at = lines.index("  ````py")
    assert lines[at : at + 4] == ["  ````py", "  ```", "  line 2 of src/a.py", "  ````"]


def many(count: int) -> Folding:
    folding = Folding()
    levels = ("low", "critical", "medium", "high")
    findings = [
        {
            **FINDING,
            "path": f"src/f{number % 97}.py",
            "line": number,
            "severity": levels[number % 4] if number % 50 == 0 else "low",
            "message": "A sentence that says what is wrong here, in some detail.",
            "suggestion": "x = 1" if number % 3 == 0 else "",
        }
        for number in range(1, count + 1)
    ]
    for start in range(0, count, 1_000):
        folding.say("A", {"findings": findings[start : start + 1_000]})
    folding.say("B", {f"t{number}": "text " * 900 for number in range(20)})
    return folding


@pytest.fixture(scope="module")
def large() -> Synthesis:
    return Synthesis(many(1_500).document())


@pytest.mark.parametrize("by", Group)
@pytest.mark.parametrize("chars_max", [5_000, 60_000])
def test_the_worst_findings_stay_when_not_all_have_room(
    large: Synthesis, by: Group, chars_max: int
) -> None:
    layout = PR._replace(chars_max=chars_max, by=by, code=code)
    check_bounded(large, layout, 1_500)


@pytest.mark.slow
def test_5000_findings_fit_into_a_comment() -> None:
    check_bounded(Synthesis(many(5_000).document()), PR._replace(code=code), 5_000)


def check_bounded(synthesis: Synthesis, layout: Layout, count: int) -> None:
    text = "\n".join(report(synthesis, "demo", layout=layout))
    assert layout.chars_max is not None
    assert len(text) <= layout.chars_max
    (more,) = re.findall(r"… ([\d,]+) more: `fabric synthesis demo`", text)
    shown = len(re.findall(r"^- \*\*(?:critical|high|medium|low)\*\*", text, re.MULTILINE))
    assert shown + int(more.replace(",", "")) == count
    assert shown > layout.chars_max / 400
    worst = [one for one in select(synthesis) if one.severity == "critical"]
    assert len(re.findall(r"^- \*\*critical", text, re.MULTILINE)) == min(len(worst), shown)
    assert not rendered(text.split("\n")).open


def test_without_a_bound_all_findings_are_there_under_their_files(large: Synthesis) -> None:
    lines = report(large, "demo")
    assert sum(line.startswith("- **") for line in lines) == 1_500
    files = [line for line in lines if line.startswith("### ")]
    assert files[:2] == ["### src/f0.py: 15 findings", "### src/f1.py: 16 findings"]
