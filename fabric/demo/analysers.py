"""Runs ruff, bandit and vulture on files of a snapshot, and reads what they find.

Each run is a process group of its own with a limit of time, and is killed as a whole at the limit
or when the agent is cancelled. A file that an analyser fails on is itself a finding, so that nobody
takes silence for praise.
"""

from __future__ import annotations

import asyncio
import json
import os
import posixpath
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import msgspec

from fabric.demo.finding import Finding, Severity, bounded
from fabric.demo.tree import Tree
from fabric.wire.printable import printable, shortened

#: Time for a run: so much, and so much more for each file, s.
RUN_S, FILE_S = 20.0, 0.5

#: Files of the first run and of the largest one; each run takes twice as many as the one before, so
#: that the first findings come early and few runs are needed.
BATCH_MIN, BATCH_MAX = 20, 400

#: Bytes of output that are read. The findings of the largest batch take less.
OUTPUT_BYTES_MAX = 64_000_000

#: Characters of a message or a source line that a finding carries.
TEXT_CHARS_MAX = 160

#: Strings on a line with one of these words are hidden: a report must not spread what it warns of.
_SENSITIVE = re.compile(r"passw|passphrase|secret|token|api_?key|access_key|private_key", re.I)
_LITERAL = re.compile(r"""(["'])(?:\\.|(?!\1).)*(?:\1|$)""")

_NUMBERS = re.compile(r"\((\d+) > \d+\)")
_VULTURE = re.compile(r"(?P<path>.+?):(?P<line>\d+): (?P<message>.*) \((?P<sure>\d+)% confidence")


class AnalyserError(Exception):
    """An analyser did not do its work; the message says why."""


@dataclass(frozen=True)
class Analyser:
    """A program: its arguments, its exit codes when it has done its work, and how to read it.

    With `is_whole` it needs all files at once, otherwise they can be given in batches.
    """

    arguments: tuple[str, ...]
    codes: frozenset[int]
    parse: Callable[[bytes], Iterable[Finding]]
    is_whole: bool = False

    async def run(self, tree: Tree, files: Sequence[str]) -> list[Finding]:
        """Return what it finds in some files; a file that it fails on is a finding."""
        try:
            code, out, err = await run_tool(
                [*self.arguments, *(f"./{path}" for path in files)],
                tree.folder,
                RUN_S + FILE_S * len(files),
            )
            if code not in self.codes:
                raise AnalyserError(err or f"exit code {code}")
            found = list(self.parse(out))
        except (AnalyserError, OSError, ValueError, KeyError, TypeError) as error:
            name = self.arguments[0]
            if len(files) == 1 or self.is_whole:
                reason = f"{name} failed: {type(error).__name__}: {error}"
                return [with_evidence(tree, _not_reviewed(files[0], reason))]
            half = len(files) // 2
            return await self.run(tree, files[:half]) + await self.run(tree, files[half:])
        prefix, known = f"{tree.folder}/", frozenset(files)
        for number, one in enumerate(found):
            path = posixpath.normpath(one.path.removeprefix(prefix))
            found[number] = msgspec.structs.replace(one, path=path)
        return bounded(with_evidence(tree, one) for one in found if one.path in known)


async def examine(
    analyser: Analyser, tree: Tree, files: Sequence[str]
) -> AsyncIterator[tuple[int, list[Finding]]]:
    """Yield batch by batch how many files have been analysed so far, and what was found in them."""
    size = len(files) if analyser.is_whole else BATCH_MIN
    done = 0
    while done < len(files):
        batch = files[done : done + size]
        done += len(batch)
        yield done, await analyser.run(tree, batch)
        size = min(2 * size, BATCH_MAX)


async def run_tool(
    arguments: Sequence[str], folder: str, limit_s: float, given: bytes = b""
) -> tuple[int, bytes, str]:
    """Run `python -m` in a folder, with `given` as its input; return exit code, output and the last
    line of its error output. Raises AnalyserError at the limit of time or of output.
    """
    # -P: a file of the reviewed tree must not be imported in place of a module of the analyser.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", *arguments),
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        async with asyncio.timeout(limit_s):
            process.stdin.write(given)
            process.stdin.close()
            out, err = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            code = await process.wait()
    except TimeoutError:
        raise AnalyserError(f"no answer within {limit_s:.0f} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    lines = err.decode("utf-8", "replace").strip().splitlines()
    return code, out, excerpt(lines[-1]) if lines else ""


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    read = bytearray()
    while data := await stream.read(1 << 20):
        read += data
        if len(read) > OUTPUT_BYTES_MAX:
            raise AnalyserError(f"more than {OUTPUT_BYTES_MAX:,} bytes of output")
    return bytes(read)


def with_evidence(tree: Tree, finding: Finding) -> Finding:
    """Return a finding with its key and its source line, and its texts as excerpts."""
    line = finding.line
    source = "".join(tree.lines(finding.path)[line - 1 : line]) if line else ""
    return msgspec.structs.replace(
        finding,
        key=f"{finding.path}:{line}:{finding.rule}",
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
        code, fix, url = one["code"], one.get("fix") or {}, f"See `{one.get('url')}`"
        if code in (None, "invalid-syntax"):
            continue
        prefix = max(filter(code.startswith, severities), key=len, default="")
        numbers = _NUMBERS.search(one["message"])
        advice = fix["message"] if fix.get("applicability") == "safe" else url
        where = one["filename"], one["location"]["row"], one.get("name") or code
        what = f"{one['message']} ({code})", severities.get(prefix, Severity.LOW), advice or url
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


def ruff(select: str, severities: Mapping[str, Severity], ignore: str = "E501") -> Analyser:
    """Return ruff with some of its rules. It reads no settings and no cache of the tree."""
    arguments = ("ruff", "check", "--isolated", "--no-cache", "--exit-zero")
    rules = ("--output-format=json", f"--select={select}", f"--ignore={ignore}")
    parse = partial(_parse_ruff, severities=severities)
    return Analyser((*arguments, *rules), frozenset({0}), parse)


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
    "SAFETY": Analyser(
        ("bandit", "--quiet", "--format", "json", "--skip", "B101"),
        frozenset({0, 1}),
        _parse_bandit,
    ),
    "DEAD_CODE": Analyser(("vulture",), frozenset({0, 3}), _parse_vulture, is_whole=True),
    "IMPORTS": ruff("F401,F403,F811,E402", {"F401": Severity.LOW, "F": Severity.MEDIUM}),
}
