"""The report: complete, bounded, and not to be broken by what stands in the reviewed files."""

import re

import pytest

from fabric.demo import report
from fabric.demo.fleet import VOTE
from fabric.demo.report import Document, faults, render
from fabric.view.report import contradiction
from fabric.wire.document import Contradiction, Source

HOSTILE = (
    "`` `x` ``` | *b* _i_ <script>alert(1)</script> [a](http://evil) ![i](x) \n# H \x1b[31m\u202e"
)


def finding(severity: str, path: str = "a.py", line: int = 3, **changes: str) -> Document:
    return {
        "agent": "SAFETY",
        "at_ms": 310,
        "path": path,
        "line": line,
        "rule": "some-rule",
        "message": "is `wrong`",
        "severity": severity,
        "recommendation": "Repair it.",
        "confidence": 1.0,
        "evidence": "x == None",
        **changes,
    }


def row(at_ms: int, signal: str, stream: str, action: str, *, is_detail: bool = False) -> Document:
    shown = {"at_ms": at_ms, "signal": signal, "stream": stream, "action": action}
    return shown | {"is_detail": is_detail}


def summary(name: str, stream: str, ended_ms: int, *advice: str) -> Document:
    return {
        "agent": name,
        "stream": stream,
        "status": "completed",
        "ended_ms": ended_ms,
        "recommendations": advice,
        "is_reviewer": True,
    }


def made(*findings: Document, **changes: object) -> Document:
    return {
        "path": "src",
        "session": "demo-1",
        "started": "2026-01-02 03:04 UTC",
        "files": 42,
        "agents": [
            summary("SAFETY", "C", 2_000, "1. 2 × some-rule (high): Repair it. a.py:3, b.py:9"),
            summary("STYLE", "B", 3_210),
        ],
        "findings": findings,
        "timeline": [
            row(0, "STARTED", "A, B", "All begin"),
            row(5_000, "INTENT", "F", "FIXER is about to write fixed/a.py", is_detail=True),
            row(5_120, "DEPENDENCY_RESOLVED", "A", "INDEXER completes index"),
        ],
        "skipped": [],
        "changes": {"files": [], "difference": [], "remarks": []},
        "course": course(),
        **changes,
    }


def point(when: str, revision: int, at_ms: int, findings: int, **more: int) -> Document:
    shown = {"when": when, "revision": revision, "at_ms": at_ms, "findings": findings}
    return {**shown, "ended": 0, **more}


def course(**changes: object) -> Document:
    def vote(agent: str, path: str, severity: str, count: int, is_held: bool) -> Document:
        said = {"path": path, "severity": severity, "count": count}
        return {"agent": agent, **said, "is_held": is_held}

    return {
        "progress": "Revision 3, final.",
        "is_final": True,
        "points": [
            point("the first revision", 1, 8, 0, begun=7),
            point("the first finding", 2, 300, 2, begun=9),
        ],
        "chart": " ▂▄█",
        "votes": [
            vote("SAFETY", "a.py", "high", 2, is_held=True),
            vote("STYLE", "b.py", "low", 1, is_held=False),
        ],
        "disputes": [],
        **changes,
    }


def test_the_report_tells_all_of_it() -> None:
    text = render(made(finding("high"), finding("low", "b.py", 9)))
    assert text.startswith("# Code review of `src`\n")
    assert (
        "2 agents reviewed 42 files in 3.2 s and found 2 things: 1 high, 0 medium, 1 low." in text
    )
    assert "| SAFETY | C | 1 | 0 | 1 | 0.310 s | 2.000 s | completed |" in text
    assert "| STYLE | B | 0 | 0 | 0 | – | 3.210 s | completed |" in text
    assert "| SAFETY | 1\\. 2 × some-rule (high): Repair it. a.py:3, b.py:9 |" in text
    assert "## Findings\n\n| Severity | Path | Line | Message | Rule | Agent |" in text
    found = "| `a.py` | 3 | is `wrong` | some-rule | SAFETY | 100% | 0.310 s | `x == None` |"
    assert f"| high {found}" in text
    assert "```sh\nfabric tail --all demo-1\nfabric synthesis demo-1\n" in text
    text = render(made(), program=".venv/bin/fabric", server="It still runs.")
    assert "is in Redis. It still runs.\n\n```sh\n.venv/bin/fabric tail --all demo-1\n" in text


def test_the_timeline_is_a_table_in_order_of_time_without_details() -> None:
    lines = render(made()).splitlines()
    start = lines.index("| At | Signal | Stream | Action |")
    assert lines[start + 2 : start + 4] == [
        "| 0.000 s | STARTED | A, B | All begin |",
        "| 5.120 s | DEPENDENCY_RESOLVED | A | INDEXER completes index |",
    ]


def test_nothing_found_is_a_report_too() -> None:
    nothing = {"points": [], "chart": "", "votes": []}
    text = render(made(agents=(), timeline=(), course=course(**nothing)))
    assert "and found nothing." in text
    assert "## Findings" not in text


def test_rows_over_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROWS_MAX", 2)
    text = render(made(*(finding("low", f"{name}.py") for name in "abcde")))
    assert text.count("| is `wrong` | some-rule | SAFETY |") == 2
    assert "`b.py`" in text
    assert "\n\nAnd 3 more.\n" in text


def test_what_was_skipped_is_said() -> None:
    text = render(made(skipped=[{"path": "0.py", "reason": "too | large"}]))
    assert "see [Not reviewed](#not-reviewed)" in text
    assert "| `0.py` | too \\| large |" in text


def test_hostile_text_stays_text() -> None:
    texts = ("message", "evidence", "rule", "recommendation")
    text = render(
        made(
            finding("high", f"{HOSTILE}.py", 1, **dict.fromkeys(texts, HOSTILE)),
            agents=[summary(HOSTILE, HOSTILE, 1, HOSTILE)],
            path=HOSTILE,
            session=HOSTILE,
            timeline=[row(1, HOSTILE, HOSTILE, HOSTILE)],
            skipped=[{"path": HOSTILE, "reason": HOSTILE}],
        )
    )
    assert all(line.isprintable() for line in text.split("\n"))
    bare = re.sub(r"\\.", "", markdown_without_code(text))
    assert "<" not in bare
    assert "](" not in bare.replace("[Not reviewed](#not-reviewed)", "")
    assert "http://" not in bare
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == len(set(headings)) == 8
    (line_,) = [line for line in text.splitlines() if line.startswith("| 0.001 s")]
    assert line_.replace("\\|", "").count("|") == 5


def markdown_without_code(text: str) -> str:
    """The text without its code spans and blocks, by the rule that the fence's length counts."""
    kept, position = [], 0
    while position < len(text):
        if text[position] != "`":
            kept.append(text[position : position + 1 + (text[position] == "\\")])
            position += len(kept[-1])
            continue
        end = position
        while end < len(text) and text[end] == "`":
            end += 1
        fence = text[position:end]
        close = end
        while (close := text.find(fence, close)) >= 0:
            after = close + len(fence)
            if text[close - 1] != "`" and text[after : after + 1] != "`":
                break
            while text[close : close + 1] == "`":
                close += 1
        position = close + len(fence) if close >= 0 else len(text)
    return "".join(kept)


def test_the_growth_of_the_synthesis_is_told() -> None:
    text = render(made())
    assert "Revision 3, final." in text
    assert "| When | At | Findings | Revision | Begun | Ended |" in text
    assert "| the first revision | 0.008 s | 0 | 1 | 7 | 0 |" in text
    assert "| the first finding | 0.300 s | 2 | 2 | 9 | 0 |" in text
    assert "```\n ▂▄█\n```" in text
    assert "| SAFETY | `a.py` | high | 2 | yes |" in text
    assert "| STYLE | `b.py` | low | 1 | no |" in text


def test_a_contradiction_that_is_open_comes_with_the_command_that_decides_it() -> None:
    values = [Source("A", 1, 1, value="a.py")], [Source("C", 2, 2, value="b.py")]
    open_ = Contradiction(f"findings:{VOTE}", "q 1", [*values])
    text = render(made(course=course(disputes=[contradiction(open_, "demo-1")])))
    assert f'### `findings:{VOTE}`\n\n- `"a.py"`: A\n- `"b.py"`: C\n' in text
    assert "To decide: `fabric decide -s demo-1 'q 1' A | C`" in text


def test_what_is_not_as_it_must_be_is_a_fault() -> None:
    assert faults(made()) == []
    late = [point("the first revision", 1, 8, 0, begun=9, ended=4)]
    assert "4 of 9 agents had ended before" in faults(made(course=course(points=late)))[0]
    assert "not final" in faults(made(course=course(is_final=False)))[0]
    assert "no revision" in faults(made(course=course(points=[])))[0]


def test_the_changes_come_with_the_turns_and_what_is_lost() -> None:
    files: list[Document] = [
        {"path": "a.py", "edits": ["FIXER", "FORMATTER"]},
        {"path": "b.py", "edits": None},
        {"path": "c.py", "edits": ["FIXER"]},
    ]
    changes = {"files": files, "difference": ["-a", "+b"], "remarks": ["INTEGRATOR: late"]}
    lost = faults(made(changes=changes))
    assert [one.split()[0] for one in lost] == ["b.py", "c.py"]
    text = render(made(changes=changes))
    assert "| 5.000 s | INTENT | FIXER is about to write fixed/a.py |" in text
    assert "**An edit is missing** in `b.py`, `c.py`." in text
    assert "INTEGRATOR: late" in text
    assert "```diff\n-a\n+b\n```" in text
    assert "Each file holds both edits." in render(made(changes={**changes, "files": files[:1]}))


def test_a_long_difference_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "DIFFERENCE_LINES_MAX", 2)
    files = [{"path": "a.py", "edits": ["FIXER", "FORMATTER"]}]
    changes = {"files": files, "difference": list("abcde"), "remarks": []}
    assert "```diff\na\nb\n… 3 more lines\n```" in render(made(changes=changes))
