"""Runs ruff, bandit and vulture on files of a snapshot, and reads and sums up what they find.

Each run is a process group of its own with a limit of time, and is killed as a whole at the limit
or when the agent is cancelled. A file that an analyser fails on is itself a finding, so that nobody
takes silence for praise.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from operator import attrgetter
from posixpath import normpath
from typing import Any

import msgspec

from fabric.demo.fleet import VOTE
from fabric.demo.tree import Module, Tree
from fabric.wire.stored import printable, shortened

#: Time for a run: so much, and so much more for each file, s.
RUN_S, FILE_S = 20.0, 0.5

#: Files of the first run and of the largest one; each run takes twice as many as the one before, so
#: that the first findings come early and few runs are needed.
BATCH_MIN, BATCH_MAX = 20, 400

#: Bytes of output that are read: the findings of the largest batch take less. Characters of a
#: message or a source line that a finding carries.
OUTPUT_BYTES_MAX, TEXT_CHARS_MAX = 64_000_000, 160

#: Strings on a line with one of these words are hidden: a report must not spread what it warns of.
_SENSITIVE = re.compile(r"passw|passphrase|secret|token|api_?key|access_key|private_key", re.I)
_LITERAL = re.compile(r"""(["'])(?:\\.|(?!\1).)*(?:\1|$)""")

_NUMBERS = re.compile(r"\((\d+) > \d+\)")
_VULTURE = re.compile(r"(?P<path>.+?):(?P<line>\d+): (?P<message>.*) \((?P<sure>\d+)% confidence")

#: Recommendations of one agent, the places that each of them names, and findings of one rule in one
#: file. The rest is counted.
RECOMMENDATIONS_MAX, PLACES_MAX, FINDINGS_PER_RULE_MAX = 5, 3, 50


class Severity(StrEnum):
    """How much a finding matters; by `rank` the worst comes first."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for high, 1 for medium, 2 for low."""
        return list(Severity).index(self)


class Finding(msgspec.Struct, frozen=True):
    """One place that breaks one rule.

    `line` counts from 1; 0 means the file as a whole. `measure` is a number that tells worse from
    bad within a rule, 0 where the rule has none. `evidence` is the source line. `key` is
    `path:line:rule`, with `#2`, `#3`, … for further ones on the same line.
    """

    path: str
    line: int
    rule: str
    message: str
    severity: Severity
    recommendation: str
    confidence: float = 1.0
    measure: int = 0
    evidence: str = ""
    key: str = ""


def _grouped(findings: Iterable[Finding], *fields: str) -> list[list[Finding]]:
    groups: dict[Any, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[attrgetter(*fields)(finding)].append(finding)
    return list(groups.values())


def _ranked(findings: Iterable[Finding], field: str) -> list[tuple[int, list[Finding]]]:
    """Group findings by a field, the worst of a group first; return the number as bad as the worst
    with each group. By the worst severity, then by that number, and alike in every process.
    """

    def badness(one: Finding) -> tuple[int, int, str, int, str]:
        return one.severity.rank, -one.measure, one.path, one.line, one.key

    groups = [
        (sum(one.severity is group[0].severity for one in group), group)
        for group in _grouped(sorted(findings, key=badness), field)
    ]
    groups.sort(key=lambda item: (item[1][0].severity.rank, -item[0], badness(item[1][0])))
    return groups


def bounded(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with distinct keys, and at most FINDINGS_PER_RULE_MAX a rule and file: what
    is over that is one finding with the number.
    """
    kept: list[Finding] = []
    keys: Counter[str] = Counter()
    ordered = sorted(findings, key=attrgetter("path", "line", "rule", "message"))
    for group in _grouped(ordered, "path", "rule"):
        for one in group[:FINDINGS_PER_RULE_MAX]:
            keys[one.key] += 1
            number = f"#{keys[one.key]}" if keys[one.key] > 1 else ""
            kept.append(msgspec.structs.replace(one, key=one.key + number))
        if rest := group[FINDINGS_PER_RULE_MAX:]:
            path, rule = group[0].path, group[0].rule
            text = f"and {len(rest):,} more of {rule} in this file"
            whole = {"key": f"{path}:0:{rule}", "line": 0, "message": text, "evidence": ""}
            kept.append(msgspec.structs.replace(group[0], **whole))
    return kept


def draft(findings: Iterable[Finding], limit: int = RECOMMENDATIONS_MAX) -> dict[str, Any]:
    """Return `items`, a recommendation for each of the `limit` weightiest rules, and `left_out`,
    the other rules → their number.

    Ordered by the worst severity, then by the number of findings of that severity. A recommendation
    names rule, severity, count, number of files, advice, and the worst places.
    """
    groups = [group for _, group in _ranked(findings, "rule")]
    items = [
        {
            "rule": group[0].rule,
            "severity": group[0].severity.value,
            "count": len(group),
            "files": len({one.path for one in group}),
            "advice": group[0].recommendation,
            "places": list({f"{one.path}:{one.line}": 0 for one in group if one.line})[:PLACES_MAX],
        }
        for group in groups[:limit]
    ]
    return {"items": items, "left_out": {one[0].rule: len(one) for one in groups[limit:]}}


def vote(findings: Iterable[Finding]) -> dict[str, Any] | None:
    """Return a vote for the file that is worst by these findings, as an item of `partial.findings`:
    the file is the value, the severity of the worst and how often it was found there the evidence.

    It is the file with the worst severity, then with most findings of it, then with the worst of
    them. None when there are no findings.
    """
    for count, (worst, *_) in _ranked(findings, "path")[:1]:
        evidence = {"severity": worst.severity.value, "count": count}
        return {"key": VOTE, "value": worst.path, "evidence": evidence}
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
    """A program: its command, its exit codes when it has done its work, and how to read it.

    With `is_whole` it needs all files at once, otherwise they can be given in batches.
    """

    command: str
    codes: tuple[int, ...]
    parse: Callable[[bytes], Iterable[Finding]]
    is_whole: bool = False

    async def run(self, tree: Tree, files: Sequence[str]) -> list[Finding]:
        """Return what it finds in some files; a file that it fails on is a finding."""
        root, known = f"{tree.folder}/", frozenset(files)
        argv = [*self.command.split(), *(f"./{path}" for path in files)]
        try:
            code, out, err = await run_tool(argv, tree.folder, RUN_S + FILE_S * len(files))
            if code not in self.codes:
                raise AnalyserError(err or f"exit code {code}")
            found = [(normpath(one.path.removeprefix(root)), one) for one in self.parse(out)]
        except (AnalyserError, OSError, ValueError, KeyError, TypeError) as error:
            if len(files) == 1 or self.is_whole:
                reason = f"{argv[0]} failed: {type(error).__name__}: {error}"
                return [with_evidence(tree, _not_reviewed(files[0], reason))]
            half = len(files) // 2
            return await self.run(tree, files[:half]) + await self.run(tree, files[half:])
        return bounded(with_evidence(tree, one, path) for path, one in found if path in known)


async def examine(
    analyser: Analyser, tree: Tree, files: Sequence[str]
) -> AsyncIterator[tuple[int, list[Finding]]]:
    """Yield batch by batch how many files have been analysed so far, and what was found in them."""
    size, done = len(files) if analyser.is_whole else BATCH_MIN, 0
    while batch := files[done : done + size]:
        done += len(batch)
        yield done, await analyser.run(tree, batch)
        size = min(2 * size, BATCH_MAX)


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
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(limit_s):
            out, err = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
    except TimeoutError:
        raise AnalyserError(f"no answer within {limit_s:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return code, out, excerpt(last)


async def _read(stream: asyncio.StreamReader) -> bytes:
    try:
        await stream.readexactly(OUTPUT_BYTES_MAX + 1)
    except asyncio.IncompleteReadError as end:
        return end.partial
    raise AnalyserError(f"more than {OUTPUT_BYTES_MAX:,} bytes of output")


def with_evidence(tree: Tree, finding: Finding, path: str = "") -> Finding:
    """Return a finding with its path in the tree, key and source line; texts are excerpts."""
    path, line = path or finding.path, finding.line
    source = "".join(tree.lines(path)[line - 1 : line]) if line else ""
    return msgspec.structs.replace(
        finding,
        path=path,
        key=f"{path}:{line}:{finding.rule}",
        message=excerpt(masked(finding.message, source)),
        evidence=excerpt(masked(source)),
        recommendation=excerpt(finding.recommendation),
    )


def excerpt(text: str) -> str:
    """Return the trimmed, printable start of a text on one line."""
    # Cut before anything else: a line may be a million characters long.
    start = text[: 20 * TEXT_CHARS_MAX].strip()
    return shortened(printable(start.replace("\t", " ")), TEXT_CHARS_MAX)


def masked(text: str, *beside: str) -> str:
    """Return a text with every string in it hidden when it, or what is beside it, names secrets."""
    if not any(_SENSITIVE.search(one[: 20 * TEXT_CHARS_MAX]) for one in (text, *beside)):
        return text
    return _LITERAL.sub(lambda match: f"{match[1]}***{match[1]}", text[: 20 * TEXT_CHARS_MAX])


def _parse_ruff(out: bytes, severities: Mapping[str, Severity]) -> Iterator[Finding]:
    """Read `ruff check --output-format json`. The longest prefix of a code gives the severity;
    files that do not parse are INDEXER's to report.
    """
    for one in json.loads(out):
        code, fix, advice = one["code"], one.get("fix") or {}, f"See `{one.get('url')}`"
        if code in (None, "invalid-syntax"):
            continue
        if fix.get("applicability") == "safe":
            advice = fix["message"] or advice
        prefix = max(filter(code.startswith, severities), key=len, default="")
        numbers = _NUMBERS.search(one["message"])
        where = one["filename"], one["location"]["row"], one.get("name") or code
        what = f"{one['message']} ({code})", severities.get(prefix, Severity.LOW), advice
        yield Finding(*where, *what, measure=int(numbers[1]) if numbers else 0)


_SURE = {"HIGH": 0.9, "MEDIUM": 0.7, "LOW": 0.5}


def _parse_bandit(out: bytes) -> Iterator[Finding]:
    """Read `bandit -f json`."""
    document = json.loads(out)
    for one in document["results"]:
        url, rule = one["more_info"], one["test_name"]
        if rule == "blacklist":  # the name of many tests: the page about them tells them apart
            rule = url.rpartition("#")[2].partition("-")[2] or rule
        message, severity = f"{one['issue_text']} ({one['test_id']})", one["issue_severity"].lower()
        what = message, Severity(severity), f"See `{url}`", _SURE.get(one["issue_confidence"], 0.5)
        yield Finding(one["filename"], one["line_number"], rule, *what)
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
            severity = Severity.MEDIUM if match["sure"] == "100" else Severity.LOW
            what = rule, match["message"], severity, advice, int(match["sure"]) / 100
            yield Finding(match["path"], int(match["line"]), *what)


def _not_reviewed(path: str, reason: str) -> Finding:
    return Finding(path, 0, "not-reviewed", reason, Severity.MEDIUM, "Look at the file yourself.")


def broken(tree: Tree, one: Module) -> Finding:
    """Return a finding for a file that has no syntax tree, or too deep a one."""
    advice = "Repair the file: Python or an analyser cannot read it."
    what = one.rule, one.problem, Severity.HIGH, advice
    return with_evidence(tree, Finding(one.path, one.line, *what))


def import_cycle(tree: Tree, cycle: Sequence[Module]) -> Finding:
    """Return a finding for a cycle of imports, at the import where it begins."""
    names = " → ".join(module.name for module in (*cycle, cycle[0]))
    where = cycle[0].path, cycle[0].imports[cycle[1].path], "import-cycle"
    advice = "Move what both need into a module of its own."
    what = f"imports in a circle: {names}", Severity.MEDIUM, advice
    return with_evidence(tree, Finding(*where, *what, measure=len(cycle)))


def ruff(select: str, severities: Mapping[str, Severity], ignore: str = "E501") -> Analyser:
    """Return ruff with some of its rules. It reads no settings and no cache of the tree."""
    command = "ruff check --isolated --no-cache --exit-zero --output-format=json"
    parse = partial(_parse_ruff, severities=severities)
    return Analyser(f"{command} --select={select} --ignore={ignore}", (0,), parse)


#: Reviewer → analyser. INDEXER has none: it builds the index.
ANALYSERS: Mapping[str, Analyser] = {
    # Line lengths and the noqa comments of other settings are nobody's business here.
    "STYLE": ruff(
        "E,W,F,B,C4,N,PIE,RUF,SIM,UP",
        {"F": Severity.MEDIUM, "B": Severity.MEDIUM, "F82": Severity.HIGH, "F7": Severity.HIGH},
        "E501,RUF001,RUF002,RUF003,RUF100,F401,F811,E402",
    ),
    "COMPLEXITY": ruff(
        "C901,PLR0911,PLR0912,PLR0913,PLR0915",
        {"C901": Severity.MEDIUM, "PLR0912": Severity.MEDIUM, "PLR0915": Severity.MEDIUM},
    ),
    "SAFETY": Analyser("bandit --quiet --format json --skip B101", (0, 1), _parse_bandit),
    "DEAD_CODE": Analyser("vulture", (0, 3), _parse_vulture, is_whole=True),
    "IMPORTS": ruff("F401,F403,F811,E402", {"F401": Severity.LOW, "F": Severity.MEDIUM}),
}
