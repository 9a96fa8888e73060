"""Runs ruff, bandit and vulture on files of a snapshot, and reads and sums up what they find.

Each run is a process group of its own with a limit of time, and is killed as a whole at the limit
or when the agent is cancelled. A file that an analyser fails on is itself a finding, so that nobody
takes silence for praise.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import signal
import sys
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import groupby
from operator import attrgetter
from posixpath import normpath
from typing import Any

import msgspec
from msgspec.structs import replace

from fabric.demo.fleet import VOTE
from fabric.demo.tree import Tree
from fabric.view.text import counted
from fabric.wire.stored import printable, shortened

#: Time for a run: so much, and so much more for each file, s. Files of one run: few enough that the
#: first findings come early.
RUN_S, FILE_S, BATCH = 20.0, 0.5, 50

#: Bytes of output that are read: the findings of a whole tree take less. Characters of a message or
#: a source line that a finding carries.
OUTPUT_BYTES_MAX, TEXT_CHARS_MAX = 64_000_000, 160

#: Strings on a line with one of these words are hidden: a report must not spread what it warns of.
_SENSITIVE = re.compile(r"passw|passphrase|secret|token|api_?key|access_key|private_key", re.I)
_LITERAL = re.compile(r"""(["'])(?:\\.|(?!\1).)*(?:\1|$)""")

_VULTURE = re.compile(r"(?P<path>.+?):(?P<line>\d+): (?P<message>.*) \((?P<sure>\d+)% confidence")

#: Recommendations of one agent, the places that each of them names, and findings of one rule in one
#: file; the rest is counted. Import cycles that are reported: one tangle can hold any number.
RECOMMENDATIONS_MAX, PLACES_MAX, FINDINGS_PER_RULE_MAX, CYCLES_MAX = 5, 3, 50, 20

#: Levels of a syntax tree. Analysers that walk a deeper one by recursion would fail on the file.
DEPTH_MAX = 150

#: The rule of a finding that says that an analyser has failed on the file.
NOT_REVIEWED = "not-reviewed"

#: How much a finding matters, the worst first.
SEVERITIES = HIGH, MEDIUM, LOW = "high", "medium", "low"


class Finding(msgspec.Struct, frozen=True):
    """One place that breaks one rule.

    `line` counts from 1; 0 means the file as a whole. `evidence` is the source line. `key` is
    `path:line:rule`, with `#2`, `#3`, … for further ones on the same line.
    """

    path: str
    line: int
    rule: str
    message: str
    severity: str
    recommendation: str
    confidence: float = 1.0
    evidence: str = ""
    key: str = ""


def completed(tree: Tree, findings: Iterable[Finding], by: str) -> list[Finding]:
    """Return findings of an analyser in order, with distinct keys, source lines, and texts that can
    be shown; at most FINDINGS_PER_RULE_MAX a rule and file: what is over is one with the number.
    """
    done: list[Finding] = []
    ordered = sorted(findings, key=attrgetter("path", "rule", "line", "message"))
    for (path, rule), same in groupby(ordered, key=attrgetter("path", "rule")):
        group, lines, keys = (
            list(same),
            ["", *tree.read(path).decode("utf-8", "replace").splitlines()],
            Counter[str](),
        )
        if (rest := len(group) - FINDINGS_PER_RULE_MAX) > 0:
            text = f"and {rest:,} more of {rule} in this file"
            whole = replace(group[0], line=0, message=text)
            group[FINDINGS_PER_RULE_MAX:] = [whole]
        for one in group:
            source = "".join(lines[one.line : one.line + 1])
            # Two analysers that fail on a file do not contradict each other.
            key = f"{path}:{one.line}:{rule}" + (f":{by}" if rule == NOT_REVIEWED else "")
            keys[key] += 1
            new = replace(
                one,
                key=f"{key}#{keys[key]}" if keys[key] > 1 else key,
                message=excerpt(one.message, source),
                evidence=excerpt(source),
                recommendation=excerpt(one.recommendation),
            )
            done.append(new)
    return done


def _ranked(findings: Iterable[Finding], field: str) -> list[tuple[str, str, int]]:
    """Return severity, field and number of findings with both: the most severe first, then the most
    frequent; alike in every process.
    """
    counts = Counter((SEVERITIES.index(one.severity), getattr(one, field)) for one in findings)
    ranked = sorted((rank, -number, value) for (rank, value), number in counts.items())
    return [(SEVERITIES[rank], value, -number) for rank, number, value in ranked]


def draft(findings: Sequence[Finding]) -> list[str]:
    """Return numbered recommendations for the weightiest rules, each with its first places."""
    ranked, texts = _ranked(findings, "rule"), []
    for severity, rule, number in ranked[:RECOMMENDATIONS_MAX]:
        same = [one for one in findings if (one.severity, one.rule) == (severity, rule)]
        places = dict.fromkeys(f"{one.path}:{one.line}".removesuffix(":0") for one in same)
        what = f"{number:,} × {rule} ({severity}): {same[0].recommendation}"
        texts.append(f"{what} {', '.join(list(places)[:PLACES_MAX])}")
    if (rest := len(ranked) - RECOMMENDATIONS_MAX) > 0:
        texts.append(f"And {counted(rest, 'more rule')}: see the findings.")
    return [f"{number}. {text}" for number, text in enumerate(texts, 1)]


def vote(findings: Iterable[Finding]) -> dict[str, Any] | None:
    """Return a vote for the file with the worst finding, then with most of them, as an item of
    `partial.findings`: the evidence is their severity and number. None without findings.
    """
    for severity, path, number in _ranked(findings, "path")[:1]:
        return {"key": VOTE, "value": path, "evidence": {"severity": severity, "count": number}}
    return None


def to_partial(finding: Finding) -> dict[str, Any]:
    """Return a finding as an item of `partial.findings`: key, value, evidence, confidence."""
    value = msgspec.to_builtins(finding)
    outside = {name: value.pop(name) for name in ("key", "evidence", "confidence")}
    return {**outside, "value": value}


class AnalyserError(Exception):
    """An analyser did not do its work; the message says why."""


@dataclass(frozen=True)
class Analyser:
    """A program: its command, how to read it, and its exit codes when it has done its work.

    With `is_whole` it needs all files at once, otherwise they can be given in batches.
    """

    name: str
    command: str
    parse: Callable[[bytes], Iterable[Finding]]
    codes: tuple[int, ...] = (0,)
    is_whole: bool = False

    async def run(self, tree: Tree, files: Sequence[str]) -> list[Finding]:
        """Return what it finds in some files; a file that it fails on is a finding."""
        root, known = f"{tree.folder}/", frozenset(files)
        argv = [*self.command.split(), *(f"./{path}" for path in files)]
        try:
            code, out, err = await run_tool(argv, tree.folder, RUN_S + FILE_S * len(files))
            if code not in self.codes:
                raise AnalyserError(err or f"exit code {code}")
            parsed = [(normpath(one.path.removeprefix(root)), one) for one in self.parse(out)]
            found = [replace(one, path=path) for path, one in parsed if path in known]
        except (AnalyserError, OSError, ValueError, KeyError, TypeError) as error:
            if len(files) > 1 and not self.is_whole:
                half = len(files) // 2
                return await self.run(tree, files[:half]) + await self.run(tree, files[half:])
            reason = f"{argv[0]} failed: {type(error).__name__}: {error}"
            found = [_not_reviewed(path, reason) for path in files[:1]]
        return completed(tree, found, self.name)

    async def examine(
        self, tree: Tree, files: Sequence[str]
    ) -> AsyncIterator[tuple[int, list[Finding]]]:
        """Yield by batches how many files have been analysed so far, and what was found in them."""
        size = len(files) if self.is_whole else BATCH
        for start in range(0, len(files), size or 1):
            batch = files[start : start + size]
            yield start + len(batch), await self.run(tree, batch)


async def run_tool(arguments: Sequence[str], folder: str, limit_s: float) -> tuple[int, bytes, str]:
    """Run `python -m` in a folder; return exit code, output and the last line of its error output.

    Raises AnalyserError at the limit of time or of output, and OSError.
    """
    # -P: a file of the reviewed tree must not be imported in place of a module of the analyser.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", *arguments),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            out, err = await asyncio.gather(
                _read(process, process.stdout), _read(process, process.stderr)
            )
            code = await process.wait()
    except TimeoutError:
        raise AnalyserError(f"no answer within {limit_s:.0f} s") from None
    finally:
        _kill(process)
        await process.communicate()
    if max(len(out), len(err)) > OUTPUT_BYTES_MAX:
        raise AnalyserError(f"more than {OUTPUT_BYTES_MAX:,} bytes of output")
    return code, out, excerpt(err.decode("utf-8", "replace").strip().rpartition("\n")[2])


async def _read(process: asyncio.subprocess.Process, stream: asyncio.StreamReader | None) -> bytes:
    """Return what the process writes; kill it when that is more than OUTPUT_BYTES_MAX.

    All is read to its end even then: asyncio's wait() ends only when the pipes have ended.
    """
    assert stream is not None
    try:
        start = await stream.readexactly(OUTPUT_BYTES_MAX + 1)
    except asyncio.IncompleteReadError as end:
        return end.partial
    _kill(process)
    await stream.read()
    return start


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def excerpt(text: str, beside: str = "") -> str:
    """Return the trimmed, printable start of a text on one line. Strings in it are hidden when it,
    or the text beside it, names secrets.
    """
    # Cut before anything else: a line may be a million characters long.
    start, beside = text[: 20 * TEXT_CHARS_MAX].strip(), beside[: 20 * TEXT_CHARS_MAX]
    if _SENSITIVE.search(start) or _SENSITIVE.search(beside):
        start = _LITERAL.sub(r"\1***\1", start)
    return shortened(printable(start.replace("\t", " ")), TEXT_CHARS_MAX)


#: Prefix of a code of ruff → severity; the longest one holds, and without any it is low.
_SEVERITIES = {
    **dict.fromkeys(("B", "C901", "F", "PLR0912", "PLR0915"), MEDIUM),
    **dict.fromkeys(("F7", "F82"), HIGH),
    "F401": LOW,
}


def _parse_ruff(out: bytes) -> Iterator[Finding]:
    """Read `ruff check --output-format json`. Files that do not parse are INDEXER's to report."""
    for one in json.loads(out):
        code, fix, advice = one["code"], one.get("fix") or {}, f"See `{one.get('url')}`"
        if code in (None, "invalid-syntax"):
            continue
        if fix.get("applicability") == "safe":
            advice = fix["message"] or advice
        prefix = max(filter(code.startswith, _SEVERITIES), key=len, default="")
        where = one["filename"], one["location"]["row"], one.get("name") or code
        what = f"{one['message']} ({code})", _SEVERITIES.get(prefix, LOW), advice
        yield Finding(*where, *what)


def _parse_graph(out: bytes) -> Iterator[Finding]:
    """Read `ruff analyze graph`, file → files that it imports; yield the cycles."""
    imports = json.loads(out)
    graph = {path: [one for one in imports[path] if one != path] for path in imports}
    for _ in range(CYCLES_MAX):
        try:
            return TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle: list[str] = error.args[1][::-1]  # each imports the next, the last is the first
        graph[cycle[0]].remove(cycle[1])
        message = f"files import each other: {' → '.join(cycle)}"
        advice = "Move what both need into a module of its own."
        # Low: imports within functions count too, and one may be there to break the cycle.
        yield Finding(cycle[0], 0, "import-cycle", message, LOW, advice)


#: How sure bandit is.
_SURE = {"HIGH": 0.9, "MEDIUM": 0.7, "LOW": 0.5}


def _parse_bandit(out: bytes) -> Iterator[Finding]:
    """Read `bandit -f json`."""
    document = json.loads(out)
    for one in document["results"]:
        url, rule = one["more_info"], one["test_name"]
        if rule == "blacklist":  # the name of many tests: the page about them tells them apart
            rule = url.rpartition("#")[2].partition("-")[2] or rule
        severity = one["issue_severity"].lower()
        what = f"{one['issue_text']} ({one['test_id']})", severity, f"See `{url}`"
        yield Finding(
            one["filename"],
            one["line_number"],
            rule,
            *what,
            _SURE.get(one["issue_confidence"], 0.5),
        )
    for one in document["errors"]:
        if "syntax error" not in one["reason"]:
            yield _not_reviewed(one["filename"], one["reason"])


def _parse_vulture(out: bytes) -> Iterator[Finding]:
    """Read vulture's lines: `path:line: unused function 'f' (60% confidence)`. Unused imports are
    left to IMPORTS.
    """
    advice = "Remove it, or name it in `__all__` when it is for callers outside."
    for match in map(_VULTURE.match, out.decode("utf-8", "replace").splitlines()):
        if match is not None and not match["message"].startswith("unused import"):
            rule = re.split(r" ['(]| after ", match["message"])[0].replace(" ", "-")
            severity = MEDIUM if match["sure"] == "100" else LOW
            what = rule, match["message"], severity, advice, int(match["sure"]) / 100
            yield Finding(match["path"], int(match["line"]), *what)


def _not_reviewed(path: str, reason: str) -> Finding:
    return Finding(path, 0, NOT_REVIEWED, reason, MEDIUM, "Look at the file yourself.")


def unreadable(tree: Tree, path: str) -> Finding | None:
    """Return a finding for a file that Python does not parse, or an analyser cannot walk."""
    what = 1, "too-deep", f"nested more than {DEPTH_MAX} levels deep"
    try:
        with warnings.catch_warnings(action="ignore"):
            level: list[ast.AST] = [ast.parse(tree.read(path))]
        for _ in range(DEPTH_MAX):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return None
    except (RecursionError, MemoryError):
        pass
    except (SyntaxError, ValueError, OverflowError) as error:
        problem = getattr(error, "msg", "") or str(error) or "invalid syntax"
        what = getattr(error, "lineno", 1) or 1, "syntax-error", problem
    return Finding(path, *what, HIGH, "Repair the file: Python or an analyser cannot read it.")


#: It reads no settings and no cache of the tree.
_RUFF = "ruff check --isolated --no-cache --exit-zero --output-format=json --select="

#: By name: one for each reviewer but INDEXER, and CYCLES, which IMPORTS runs too.
ANALYSERS = {
    one.name: one
    for one in (
        Analyser(
            "STYLE",
            # Line lengths and the noqa comments of other settings are nobody's business here.
            f"{_RUFF}E,W,F,B,C4,N,PIE,RUF,SIM,UP "
            "--ignore=E501,RUF001,RUF002,RUF003,RUF100,F401,F811,E402",
            _parse_ruff,
        ),
        Analyser("COMPLEXITY", f"{_RUFF}C901,PLR0911,PLR0912,PLR0913,PLR0915", _parse_ruff),
        Analyser("IMPORTS", f"{_RUFF}F401,F403,F811,E402", _parse_ruff),
        Analyser(
            "CYCLES",
            "ruff analyze graph --isolated --quiet --no-type-checking-imports",
            _parse_graph,
            is_whole=True,
        ),
        Analyser("SAFETY", "bandit --quiet --format json --skip B101", _parse_bandit, (0, 1)),
        Analyser("DEAD_CODE", "vulture", _parse_vulture, (0, 3), is_whole=True),
    )
}
