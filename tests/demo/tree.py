"""Small trees of Python files in memory, and the reviewers run over them."""

from collections.abc import Mapping
from textwrap import dedent

from fabric.demo.finding import Finding
from fabric.demo.reviews import Indexer, examine, reviewer
from fabric.demo.source import Source
from fabric.demo.symbols import Index


def source(text: str, path: str = "pkg/module.py") -> Source:
    return Source(path, dedent(text))


def index_of(files: Mapping[str, str], package: str = "") -> Index:
    """The index that INDEXER makes of the files, given as path → text."""
    indexer = Indexer(package)
    for path, text in files.items():
        list(indexer.check(source(text, path)))
    return indexer.index()


def check(name: str, text: str, path: str = "pkg/module.py") -> list[Finding]:
    """What one reviewer finds in one file that is the whole tree."""
    return check_tree(name, {path: text})[path]


def check_tree(name: str, files: Mapping[str, str], package: str = "") -> dict[str, list[Finding]]:
    """What one reviewer finds in each file of a tree."""
    review = reviewer(name, index=index_of(files, package), package=package)
    return {path: examine(review, source(text, path)) for path, text in files.items()}


def places(findings: list[Finding], rule: str) -> list[int]:
    """The lines at which a rule was broken."""
    return [finding.line for finding in findings if finding.rule == rule]
