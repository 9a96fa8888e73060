"""INDEXER: builds the symbol index of the tree; reports files that do not parse and names defined
twice.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from fabric.demo.excerpt import excerpt
from fabric.demo.finding import Finding, Rule, Severity
from fabric.demo.reviews.review import found
from fabric.demo.source import Problem, Source
from fabric.demo.summary import summarise
from fabric.demo.symbols import FileSymbols, Index, module_of
from fabric.demo.syntax import Definition, children, definitions, walk

UNREADABLE = Rule(
    "unreadable", Severity.HIGH, "Make the file readable, or take it out of the tree."
)
UNDECODABLE = Rule(
    "undecodable", Severity.HIGH, "Save the file as UTF-8, or correct its coding line."
)
SYNTAX_ERROR = Rule("syntax-error", Severity.HIGH, "Repair the file: Python cannot import it.")
DUPLICATE_DEFINITION = Rule(
    "duplicate-definition",
    Severity.MEDIUM,
    "Rename or remove one of the two: the later replaces the earlier.",
    0.9,
)

_BROKEN = {rule.name: rule for rule in (UNREADABLE, UNDECODABLE, SYNTAX_ERROR)}


class Indexer:
    """Checks files and remembers their symbols; `index()` is what it has seen so far.

    The package is that of the listing (`Listing.package`). Each file is parsed once for both
    purposes.
    """

    rules = (UNREADABLE, UNDECODABLE, SYNTAX_ERROR, DUPLICATE_DEFINITION)

    def __init__(self, package: str = "") -> None:
        self._package = package
        self._files: list[FileSymbols] = []

    def check(self, source: Source) -> Iterator[Finding]:
        """Add the file to the index and yield its findings."""
        tree = source.parse()
        if isinstance(tree, Problem):
            module = module_of(source.path, self._package)
            self._files.append(FileSymbols(source.path, module, parsed=False))
            yield found(source, _BROKEN[tree.rule], tree.line, tree.message)
            return
        self._files.append(summarise(source, tree, self._package))
        yield from _duplicates(source, tree)

    def index(self) -> Index:
        """Return the index of all files checked so far, in the order of their checks."""
        return Index(self._package, tuple(self._files))


def _duplicates(source: Source, tree: ast.Module) -> Iterator[Finding]:
    yield from _in_body(source, tree.body, "")
    for defined in definitions(tree):
        if isinstance(defined.node, ast.ClassDef):
            yield from _in_body(source, defined.node.body, f"{defined.qualified}.")


def _in_body(source: Source, body: Sequence[ast.stmt], prefix: str) -> Iterator[Finding]:
    """Compare definitions of the same list of statements: those in other branches of an `if` are
    alternatives.
    """
    earlier: dict[str, int] = {}
    for position, node in enumerate(body):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        before = earlier.get(node.name)
        earlier[node.name] = position
        # A decorator may keep the earlier one (a property's setter, a registry, an overload).
        if before is None or node.name == "_" or node.decorator_list:
            continue
        first = body[before]
        if getattr(first, "decorator_list", None) or _mentions(body[before + 1 : position], node):
            continue
        name = excerpt(prefix + node.name)
        yield found(
            source,
            DUPLICATE_DEFINITION,
            node.lineno,
            f"`{name}` replaces the definition in line {first.lineno}",
        )


def _mentions(between: Sequence[ast.stmt], node: Definition) -> bool:
    """Tell whether the earlier definition is used (or deleted) before, or as, the later one is
    made.
    """
    outside: list[ast.AST] = list(between)
    if isinstance(node, ast.ClassDef):
        outside.extend([*node.bases, *node.keywords])
    else:
        outside.extend(children(node.args))
    return any(isinstance(item, ast.Name) and item.id == node.name for item in walk(*outside))
