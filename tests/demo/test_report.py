"""The report: complete, bounded, and not to be broken by what stands in the reviewed files."""

import re

import msgspec
import pytest

from fabric.demo import report
from fabric.demo.analysers import Finding, Severity, draft
from fabric.demo.fleet import VOTE
from fabric.demo.report import Document, clock, faults, render
from fabric.view.synthesis import contradiction
from fabric.wire.document import Contradiction, Source

HOSTILE = (
    "`` `x` ``` | *b* _i_ <script>alert(1)</script> [a](http://evil) ![i](x) \n# H \x1b[31m\u202e"
)


def finding(
    severity: Severity, path: str = "a.py", line: int = 3, message: str = "is `wrong`"
) -> Finding:
    key = f"{path}:{line}:some-rule"
    what = "some-rule", message, severity, "Repair it."
    return Finding(path, line, *what, evidence="x == None", key=key)


def row(at_ms: int, signal: str, stream: str, action: str) -> Document:
    return {"at_ms": at_ms, "signal": signal, "stream": stream, "agent": "", "action": action}


def summary(name: str, stream: str, ended_ms: int, *findings: Finding) -> Document:
    return {
        "name": name,
        "stream": stream,
        "status": "completed",
        "ended_ms": ended_ms,
        "draft": draft(findings),
        "is_reviewer": True,
    }


def made(*findings: Finding, **changes: object) -> Document:
    arrivals = [
        {"agent": "SAFETY", "at_ms": 310 + n, "finding": item, "log": n}
        for n, item in enumerate(findings)
    ]
    return {
        "path": "src",
        "session": "demo-1",
        "started": "2026-01-02 03:04 UTC",
        "elapsed_ms": 3_210,
        "files": 42,
        "agents": [summary("SAFETY", "C", 2_000, *findings), summary("STYLE", "B", 3_000)],
        "arrivals": arrivals,
        "timeline": [
            row(0, "STARTED", "A, B", "All begin"),
            row(5_120, "DEPENDENCY_RESOLVED", "A", "INDEXER completes index"),
        ],
        "commands": ["redis-cli XRANGE 'fabric:{0}:demo-1:log' - +"],
        "skipped": [],
        "changes": {"files": [], "difference": [], "remarks": []},
        "course": course(first=None),
        **changes,
    }


def point(number: int, at_ms: int, findings: int, **more: int) -> Document:
    return {"number": number, "at_ms": at_ms, "findings": findings, "ended": 0, **more}


def course(**changes: object) -> Document:
    def view(agent: str, path: str, severity: str, count: int, is_held: bool) -> Document:
        said = {"path": path, "severity": severity, "count": count}
        return {"agent": agent, "opinion": said, "is_held": is_held}

    return {
        "agents": 9,
        "findings": 4,
        "revisions": 3,
        "is_final": True,
        "first": point(1, 8, 0, begun=7),
        "first_finding": point(2, 300, 2, begun=9),
        "milestones": [{"after": "half", "at_ms": 450, "findings": 2, "share": 0.5}],
        "views": [
            view("SAFETY", "a.py", "high", 2, is_held=True),
            view("STYLE", "b.py", "low", 1, is_held=False),
        ],
        "disputes": [],
        **changes,
    }


def test_the_report_tells_all_of_it() -> None:
    text = render(made(finding(Severity.HIGH), finding(Severity.LOW, "b.py", 9)))
    assert text.startswith("# Code review of `src`\n")
    assert (
        "2 agents reviewed 42 files in 3.2 s and found 2 things: 1 high, 0 medium, 1 low." in text
    )
    assert "The first finding was there after 0.31 s, while 2 agents were still at work." in text
    assert "| SAFETY | C | 1 | 0 | 1 | 0:00.310 | 0:02.000 | completed |" in text
    assert "| STYLE | B | 0 | 0 | 0 | – | 0:03.000 | completed |" in text
    assert "| 2 | some-rule | 2 | high | SAFETY | Repair it. | a.py:3, b.py:9 |" in text
    assert "### High (1)\n\n| File | Line | Message | Rule | Agent |" in text
    found = "| `a.py` | 3 | is `wrong` | some-rule | SAFETY | 100% | 0:00.310 | `x == None` |"
    assert found in text
    assert "### Medium" not in text
    assert "## How it came together" not in text
    assert "```sh\nredis-cli XRANGE 'fabric:{0}:demo-1:log' - +\n```" in text


def test_the_timeline_is_a_table_in_order_of_time() -> None:
    lines = render(made()).splitlines()
    start = lines.index("| Time | Signal | Stream | Action |")
    assert lines[start + 2 : start + 4] == [
        "| 0:00.000 | STARTED | A, B | All begin |",
        "| 0:05.120 | DEPENDENCY_RESOLVED | A | INDEXER completes index |",
    ]


def test_nothing_found_is_a_report_too() -> None:
    text = render(made(agents=(), timeline=(), commands=()))
    assert "and found nothing." in text
    assert "## Findings" not in text


def test_findings_over_the_limit_are_counted_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "SHOWN_MAX", 2)
    monkeypatch.setattr(report, "FILES_NAMED_MAX", 1)
    found = [finding(Severity.LOW, f"{name}.py", line) for name in "abc" for line in (1, 2)]
    text = render(made(*found))
    assert "… and 4 more, in `b.py` (2), and 1 more file." in text
    assert text.count("| is `wrong` | some-rule | SAFETY |") == 2


def test_a_long_timeline_keeps_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "HEAD_MAX", 2)
    monkeypatch.setattr(report, "TAIL_MAX", 1)
    rows = [row(n, f"S{n}", "A", "x") for n in range(10)]
    shown = [
        line.split(" | ")[1:] for line in render(made(timeline=rows)).splitlines() if "|" in line
    ]
    signals = [
        cells[0] for cells in shown if cells and cells[0].startswith("S") and len(cells) == 3
    ]
    assert signals[-3:] == ["S0", "S1", "S9"]
    assert "7 more signals" in render(made(timeline=rows))


def test_what_was_skipped_is_said() -> None:
    skipped = [{"path": f"{n}.py", "reason": "too | large"} for n in range(30)]
    text = render(made(skipped=skipped))
    assert "see [Not reviewed](#not-reviewed)" in text
    assert "| `0.py` | too \\| large |" in text
    assert "And 10 more" in text


def test_hostile_text_stays_text() -> None:
    evil = finding(Severity.HIGH, f"{HOSTILE}.py", 1, HOSTILE)
    evil = msgspec.structs.replace(evil, evidence=HOSTILE, rule=HOSTILE, recommendation=HOSTILE)
    text = render(
        made(
            evil,
            path=HOSTILE,
            session=HOSTILE,
            timeline=[row(1, HOSTILE, HOSTILE, HOSTILE)],
            commands=(f"```\n{HOSTILE}",),
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
    (line_,) = [line for line in text.splitlines() if line.startswith("| 0:00.001")]
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


def test_clock() -> None:
    assert [clock(ms) for ms in (0, 5_120, 61_001, 3_600_000, -5)] == [
        "0:00.000",
        "0:05.120",
        "1:01.001",
        "60:00.000",
        "0:00.000",
    ]


def test_the_growth_of_the_synthesis_is_told() -> None:
    text = render(made(course=course()))
    assert "Revision 3, the last one, is final." in text
    assert "| Of the run | Time | Findings | Share | Revision | Agents begun | Ended |" in text
    assert "| the first revision | 0:00.008 | 0 | 0% | 1 | 7 | 0 |" in text
    assert "| the first finding | 0:00.300 | 2 | 50% | 2 | 9 | 0 |" in text
    assert "| half | 0:00.450 | 2 | 50% | – | – | – |" in text
    assert "| SAFETY | `a.py` | high | 2 | yes |" in text
    assert "| STYLE | `b.py` | low | 1 | no |" in text


def test_a_contradiction_that_is_open_comes_with_the_command_that_decides_it() -> None:
    values = [Source("A", 1, 1, value="a.py")], [Source("C", 2, 2, value="b.py")]
    open_ = Contradiction(f"findings:{VOTE}", "q 1", [*values])
    text = render(made(course=course(disputes=[contradiction(open_, "demo-1")])))
    assert f'### `findings:{VOTE}`\n\n- `"a.py"`: A\n- `"b.py"`: C\n' in text
    assert "To decide: `fabric decide -s demo-1 'q 1' A | C`" in text


def test_what_is_not_as_it_must_be_is_a_fault() -> None:
    assert faults(made(course=course())) == []
    late = point(1, 8, 0, begun=9) | {"ended": 4}
    assert "4 of 9 agents had ended before" in faults(made(course=course(first=late)))[0]
    assert "not final" in faults(made(course=course(is_final=False)))[0]
    assert "no revision" in faults(made(course=course(first=None)))[0]


def test_the_changes_name_agents_tokens_and_waits() -> None:
    turn = {"agent": "FORMATTER", "priority": 2, "asked_ms": 10, "given_ms": 400, "token": 3}
    turn["waited_for"] = ["INTEGRATOR", "FIXER"]
    files: list[Document] = [
        {"path": "a.py", "edits": ["FIXER", "FORMATTER"], "turns": [turn]},
        {"path": "b.py", "edits": None, "turns": []},
        {"path": "c.py", "edits": ["FIXER"], "turns": []},
    ]
    changes = {"files": files, "difference": ["-a", "+b"], "remarks": ["INTEGRATOR: late"]}
    lost = faults(made(changes=changes, course=course()))
    assert [one.split()[0] for one in lost] == ["b.py", "c.py"]
    text = render(made(changes=changes))
    assert "| `a.py` | FORMATTER | 2 | 0:00.010 | 0:00.400 | 3 | INTEGRATOR, FIXER |" in text
    assert "**An edit is missing** in `b.py`, `c.py`." in text
    assert "INTEGRATOR: late" in text
    assert "```diff\n-a\n+b\n```" in text
    assert "none was overwritten" in render(made(changes={**changes, "files": files[:1]}))
