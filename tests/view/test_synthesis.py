"""A synthesis as people read it: its content, its order, and no markup from agents."""

import re
from typing import Any

import msgspec
import pytest

from fabric.core.rule_table import Merge
from fabric.core.synthesis.state import Standing
from fabric.view.change import changes
from fabric.view.report import report
from fabric.view.synthesis import Synthesis
from tests.support.folding import Folding, entry


def synthesis(folding: Folding) -> Synthesis:
    return Synthesis(folding.document())


def folded(*partials: tuple[str, Any], merges: list[Merge] | None = None) -> Folding:
    """Fold partial results of agents, one after the other, each in its own batch."""
    folding = Folding(merges=merges or [])
    for log, (agent, partial) in enumerate(partials, 1):
        folding.take([entry(agent, log, partial)])
    return folding


def finding(key: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"findings": [{"key": key, "value": value, **more}]}


@pytest.mark.parametrize(
    ("partials", "merged"),
    [
        ([("A", {"n": 1}), ("B", {"n": 2})], {"n": {"A": 1, "B": 2}}),
        ([("A", {"t": "a"}), ("B", {"t": "b"})], {"t": {"A": "a", "B": "b"}}),
        ([("A", {"m": {"x": 1}}), ("B", {"m": {"y": 2}})], {"m": {"x": 1, "y": 2}}),
        ([("B", {"l": ["z", "b"]}), ("A", {"l": ["a", "b"]})], {"l": ["a", "b", "z"]}),
        ([("A", {"l": []})], {"l": []}),
        ([("A", {"m": {}})], {"m": {}}),
        ([("A", {"m": {}}), ("B", {"m": {"x": 1}})], {"m": {"x": 1}}),
        ([("A", {"m": "t"}), ("B", {"m": {"x": 1}})], {"m": {"": {"A": "t"}, "x": 1}}),
        ([("A", {"m": "t"}), ("B", {"m": ["x"]})], {"m": {"A": "t", "B": ["x"]}}),
        ([("A", {"n": 1, "t": "a"}), ("A", {"n": None, "t": None})], {}),
        ([("A", {"a/b": {"c~d": {"": 1}}, "e=f": ["g=h"]})],
         {"a/b": {"c~d": {"": 1}}, "e=f": ["g=h"]}),
    ],
)  # fmt: skip
def test_places_are_put_together_as_the_document_they_came_from(
    partials: list[tuple[str, Any]], merged: Any
) -> None:
    assert synthesis(folded(*partials)).plain == merged


def test_what_is_appended_stays_in_the_order_of_the_log() -> None:
    merges = [Merge("/l", "append")]
    folding = folded(("B", {"l": ["z", "a"]}), ("A", {"l": ["z"]}), merges=merges)
    assert synthesis(folding).plain == {"l": ["z", "a", "z"]}


def test_a_finding_tells_its_value_and_all_its_sources() -> None:
    found = synthesis(
        folded(
            ("A", finding("port", 1, evidence="a.py", confidence=0.5)),
            ("B", finding("port", 2)),
            ("B", finding("port", 1)),
        )
    ).findings["port"]
    assert (found.state, found.value, found.first_ms) == ("agreed", 1, 1_000)
    assert [(one.agent, one.value, one.standing) for one in found.sources] == [
        ("A", 1, Standing.HOLDS),
        ("B", 2, Standing.REPLACED),
        ("B", 1, Standing.HOLDS),
    ]
    assert (found.sources[0].evidence, found.sources[0].confidence) == ("a.py", 0.5)


def test_a_contradiction_comes_first_with_both_sides_and_how_to_decide_it() -> None:
    folding = folded(
        ("A", finding("port", 5432, evidence={"file": "a.py"}, confidence=0.9)),
        ("B C", finding("port", 5433)),
        ("A", finding("name", "x")),
    )
    shown = synthesis(folding)
    assert shown.contradictions["findings:port"].options == ["A", "B C"]
    lines = report(shown, "my demo")
    assert lines[:9] == [
        "# Synthesis of my demo",
        "",
        "Revision 3, not final yet: 2 of 2 agents reported, 0 ended, 0 %, 2 findings, "
        "1 contradiction open.",
        "",
        "## Open contradictions",
        "",
        "### `findings:port`",
        "",
        '- `5432`: A (90% sure) · evidence: `{"file":"a.py"}`',
    ]
    assert lines[9] == "- `5433`: B C"
    assert lines[11] == "To decide: `fabric decide -s 'my demo' findings:port A | 'B C'`"
    assert '- `name`: `"x"` · A · 1970-01-01T00:00:03Z' in lines
    assert "- `port`: **contradicted**, see above · A (90% sure), B C" in lines


def test_what_no_longer_holds_is_marked() -> None:
    folding = folded(
        ("A", finding("old", 1)),
        ("A", finding("new", 2, supersedes="old")),
        ("B", finding("gone", 3)),
        ("B", {"findings": [{"key": "gone", "withdrawn": True}]}),
    )
    text = "\n".join(report(synthesis(folding), "demo"))
    assert "- ~~`old`~~ superseded by `new` of A · 1970-01-01T00:00:01Z" in text
    assert "  - superseded: `1` of A · 1970-01-01T00:00:01Z" in text
    assert "- ~~`gone`~~ withdrawn by B · " in text
    assert "  - replaced since: `3` of B" in text


def test_a_decision_is_told_with_what_it_rejected() -> None:
    folding = folded(("A", finding("port", 1)), ("B", finding("port", 2)))
    (conflict,) = [payload for kind, payload in folding.signals if kind == "CONFLICT_DETECTED"]
    settled = {
        "part": "findings:port", "decision": "B", "by": "ann",
        "chosen": conflict.values[1].digest, "rejected": [conflict.values[0].digest], "value": 2,
    }  # fmt: skip
    folding.take([entry("ann", 3, kind="DECIDED", payload=settled)])
    shown = synthesis(folding)
    assert (shown.findings["port"].value, shown.contradictions) == (2, {})
    text = "\n".join(report(shown, "demo"))
    assert "- `port`: `2` · B · " in text
    assert "  - decided for B by ann · 1970-01-01T00:00:03Z" in text
    assert "  - rejected: `1` of A" in text


def test_the_document_is_an_outline_and_the_agents_come_last() -> None:
    folding = folded(("A", {"m": {"x": 1, "l": ["p", {"q": 2}]}, "": "e"}))
    folding.take([entry("A", 9, kind="FAILED", payload={"error": "no *disk*"})])
    lines = report(synthesis(folding), "demo")
    start = lines.index("## Document")
    assert lines[start + 2 : lines.index("## Agents") - 1] == [
        '- `""`:', '  - `A`: `"e"`', "- `m`:", "  - `l`:", '    - `"p"`', "    - item 2:",
        "      - `q`: `2`", "  - `x`: `1`",
    ]  # fmt: skip
    assert lines[-1] == r"- A: **failed** · first result 1970-01-01T00:00:01Z · no \*disk\*"


def test_what_a_refiner_made_is_in_a_block_that_it_cannot_leave() -> None:
    folding = folded(("A", {"x": 1}))
    given = {"refiner": "short", "value": "# One\n```\n## Two", "revision": 1}
    folding.take([entry("short", 2, kind="REFINED", payload=given)])
    lines = report(synthesis(folding), "demo")
    start = lines.index("## Refined: short")
    assert lines[start + 2 : start + 9] == [
        "Made of revision 1 · 1970-01-01T00:00:02Z", "", "````", "# One", "```", "## Two", "````",
    ]  # fmt: skip


TRUSTED = """# One

- a *list* of `a < b`

<script>alert(1)</script> @octocat

```python
@property
x = a < b"""


def test_what_a_trusted_refiner_wrote_is_markdown_that_keeps_to_itself() -> None:
    folding = folded(("A", {"x": 1}))
    for value in (TRUSTED, {"text": TRUSTED}):
        given = {"refiner": "short", "value": value, "revision": 1, "markdown": True}
        folding.take([entry("short", folding.log + 2, kind="REFINED", payload=given)])
        folding.log += 1
        lines = [line.strip() for line in report(synthesis(folding), "demo")]
        shown = {"# One", "- a *list* of `a < b`", "```python", "@property", "x = a < b", "```"}
        assert shown <= set(lines)
        assert "&lt;script>alert(1)&lt;/script> @&#8203;octocat" in lines
        assert lines.index("```") < lines.index("## Document")


def test_no_revision_is_said_in_a_sentence() -> None:
    assert report(Synthesis({}), "demo")[-1].startswith("There is no revision yet")


#: Texts that would be markup if they were not escaped.
HOSTILE = [
    "\n# Heading", "<img src=x>", "[link](http://x)", "`` ` ``", "\x1b[31m", "| a | b |", "~~~",
    "\u202e", "x" * 5_000, "", " ", "\x00", "_em_ *em* **strong**", "- [ ] todo",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_agents_write_is_never_markup(text: str) -> None:
    folding = Folding()
    # A key must be a name; any text can be a member of a document.
    key = f"{text}k" if text.isprintable() and len(text) < 500 else "k"
    for log, agent in enumerate("AB", 1):
        found = {"key": key.strip(), "value": text + agent, "evidence": text}
        folding.take(
            [entry(agent, log, {"findings": [found], f"{text}n": {text: [text, {text: text}]}})]
        )
    folding.take([entry("A", 3, kind="FAILED", payload={"error": text})])
    lines = report(synthesis(folding), "demo")
    for number, patch in enumerate(folding.revisions, 1):
        lines += changes(number, msgspec.json.decode(patch), is_final=False)
    assert all(line.isprintable() for line in lines)
    headings = [line for line in lines if line.startswith("#")]
    assert [line for line in headings if not line.startswith("### ")] == [
        "# Synthesis of demo", "## Open contradictions", "## Findings", "## Document", "## Agents",
    ]  # fmt: skip
    for line in lines:
        assert line == "" or line.startswith(("#", "- ", "  ", "Revision", "To decide"))
        # Outside of code there is only our own markup; the rest is escaped.
        bare = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", line)
        assert not re.search(r"(?<!\\)[<\[|]", bare), line
        assert len(line) < 5_000


def test_each_change_is_one_line() -> None:
    folding = folded(
        ("A", finding("port", 1) | {"l": ["x"], "n": 1, "t": "a"}),
        ("B", finding("port", 2)),
        ("B", finding("port", 1)),
    )
    folding.take([entry("A", 9, kind="COMPLETED"), entry("B", 10, kind="COMPLETED")])
    shown = [
        line
        for number, patch in enumerate(folding.revisions, 1)
        for line in changes(number, msgspec.json.decode(patch), is_final=number == 4)
    ]
    assert shown == [
        '- 1 · document `/l`: `["x"]`, reduced · A',
        "- 1 · document `/n`: `1`, agreed · A",
        '- 1 · document `/t`: by source · A `"a"`',
        "- 1 · findings `port`: `1`, agreed · A",
        "- 1 · A is active, 0 %",
        "- 2 · contradiction over `findings:port`: **open**, `1` (A) or `2` (B)",
        "- 2 · B is active, 0 %",
        "- 3 · contradiction over `findings:port`: **closed**",
        "- 3 · findings `port`: `1`, agreed · A, B",
        "- 4 · A is completed; B is completed",
        "- 4 · **final**",
    ]


def test_a_printed_synthesis_is_a_summary() -> None:
    folding = folded(
        ("A", finding("port", 5432)),
        ("B", finding("port", 5433)),
        ("A", finding("name", "x\x1b[31m")),
        ("B", finding("gone", 1)),
        ("B", {"findings": [{"key": "gone", "withdrawn": True}]}),
    )
    assert str(synthesis(folding)).splitlines() == [
        "Synthesis of demo. Revision 5, not final yet: 2 of 2 agents reported, 0 ended, 0 %, "
        "2 findings, 1 contradiction open.",
        "  contradiction over findings:port: 5432 (A) or 5433 (B)",
        '  name: "x·[31m" (A)',
    ]
    assert repr(synthesis(folding)) == "<Synthesis of 'demo': revision 5, not final>"


def test_a_long_summary_says_how_much_more_there_is() -> None:
    partial = {"findings": [{"key": f"k{number:02}", "value": number} for number in range(25)]}
    lines = str(synthesis(folded(("A", partial)))).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  and 5 more"


def test_a_notebook_shows_the_report() -> None:
    shown = synthesis(folded(("A", finding("port", 1))))
    assert shown._repr_markdown_() == "\n".join(report(shown, "demo"))


def test_no_revision_can_be_printed() -> None:
    assert str(Synthesis({})).startswith("There is no revision yet")
    assert repr(Synthesis({})) == "<Synthesis of '': revision 0, not final>"


@pytest.mark.parametrize(
    "document",
    [
        {"revision": "x"},
        {"revision": 1, "complete": 3},
        {"revision": 1, "findings": {"k": {}}},
        {"revision": 1, "contradictions": {"findings:k": {"values": [[]]}}},
    ],
)
def test_a_tampered_document_is_named_and_never_breaks_print(document: dict[str, Any]) -> None:
    shown = Synthesis(document, "fabric:demo:synthesis")
    assert "fabric:demo:synthesis" in str(shown)
    assert repr(shown)
    assert "fabric:demo:synthesis" in shown._repr_markdown_()
