"""The index of a tree: which file is which module, what it imports, and whether Python parses it.

INDEXER builds it; two agents wait for it. DEAD_CODE gives vulture only files that parse, as one
that does not would end it; IMPORTS finds the cycles.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate
from pathlib import Path

import msgspec

from fabric.demo.tree import Tree

#: Cycles that are reported. One tangle can hold any number of them.
CYCLES_MAX = 20

#: Syntax trees deeper than this are left out of the index: analysers that walk a tree by recursion
#: would fail on the file.
DEPTH_MAX = 150


class Module(msgspec.Struct, frozen=True):
    """One file. `imports` are the files that loading it imports → the line; `problem` is why Python
    does not parse it, at `line`, and `rule` the rule that this breaks.
    """

    path: str
    name: str
    imports: dict[str, int] = {}
    problem: str = ""
    rule: str = ""
    line: int = 0


def _name(path: str, package: str) -> str:
    """Return the dotted name of a file under a package: `a/b/__init__.py` is `a.b`."""
    parts = [package, *path.removesuffix(".py").split("/")]
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(filter(None, parts))


def build(tree: Tree) -> list[Module]:
    """Return the index of a snapshot: a module for each file."""
    names = {_name(path, tree.package): path for path in tree.files}
    return [_module(tree, path, names) for path in tree.files]


def read(file: Path) -> list[Module]:
    """Return the index in a file."""
    return msgspec.json.decode(file.read_bytes(), type=list[Module])


def cycles(index: Sequence[Module]) -> list[tuple[Module, ...]]:
    """Return cycles of imports, each from its first module in alphabetical order on."""
    modules = {module.path: module for module in index}
    graph = {path: set(module.imports) - {path} for path, module in modules.items()}
    found: list[tuple[Module, ...]] = []
    for _ in range(CYCLES_MAX):
        try:
            TopologicalSorter(graph).prepare()
            break
        except CycleError as error:
            # Each node of the cycle is imported by the next one, and the first one comes last too.
            path: list[str] = error.args[1][::-1][:-1]
            start = path.index(min(path))
            path = path[start:] + path[:start]
            found.append(tuple(modules[one] for one in path))
            graph[path[0]].discard(path[1])
    return found


def _module(tree: Tree, path: str, names: Mapping[str, str]) -> Module:
    name = _name(path, tree.package)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = ast.parse(tree.read(path))
        level: list[ast.AST] = [parsed]
        for _ in range(DEPTH_MAX):
            level = [child for node in level for child in ast.iter_child_nodes(node)]
        if level:
            raise RecursionError
    except (RecursionError, MemoryError):
        problem = f"nested more than {DEPTH_MAX} levels deep"
        return Module(path, name, problem=problem, rule="too-deep", line=1)
    except (SyntaxError, ValueError, OverflowError) as error:
        problem, line = getattr(error, "msg", ""), getattr(error, "lineno", 1)
        problem = problem or str(error) or "invalid syntax"
        return Module(path, name, problem=problem, rule="syntax-error", line=line or 1)
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    found: dict[str, int] = {}
    for node in _at_load(parsed.body):
        for candidates in _wanted(node, package):
            for wanted in [names[one] for one in candidates if one in names][:1]:
                found.setdefault(wanted, node.lineno)
    return Module(path, name, found)


def _at_load(body: Sequence[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements that run when the module is loaded."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _at_load(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _at_load(list(ast.iter_child_nodes(node)))


def _wanted(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, ...]]:
    """Yield for each name of an import the modules that it may mean, the most specific first."""
    if isinstance(node, ast.Import):
        for one in node.names:
            yield tuple(accumulate(one.name.split("."), "{}.{}".format))[::-1]
        return
    around = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
    module = ".".join(filter(None, (*around, node.module)))
    for one in node.names:
        yield (f"{module}.{one.name}" if module else one.name), module
