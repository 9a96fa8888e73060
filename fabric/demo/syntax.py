"""Walks over Python syntax trees that need no recursion, so that no depth of nesting can break
them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

#: Fields that never hold a node worth visiting: contexts, operators and plain values.
_FLAT_FIELDS = frozenset(
    {
        "arg",
        "attr",
        "conversion",
        "ctx",
        "id",
        "is_async",
        "kind",
        "level",
        "module",
        "op",
        "ops",
        "simple",
    }
    | {"type_comment", "type_ignores"}
)
_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {
    kind: tuple(field for field in kind._fields if field not in _FLAT_FIELDS)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
# `arg` and `module` are plain values in every node, except that a Constant's value is no node at
# all.
_FIELDS[ast.Constant] = ()


@dataclass(frozen=True, slots=True)
class Defined:
    """A function or class with its dotted name inside the file and the definition that directly
    encloses it.
    """

    node: Definition
    qualified: str
    owner: Definition | None


def children(node: ast.AST) -> list[ast.AST]:
    """Return the nodes directly below `node`, in order, without contexts and operators."""
    found: list[ast.AST] = []
    for field in _FIELDS[type(node)]:
        value = getattr(node, field, None)
        if isinstance(value, list):
            found.extend(item for item in value if isinstance(item, ast.AST))
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def walk(*roots: ast.AST) -> Iterator[ast.AST]:
    """Yield `roots` and everything below them, parents before children."""
    pending = list(reversed(roots))
    while pending:
        node = pending.pop()
        yield node
        below = children(node)
        below.reverse()
        pending.extend(below)


def walk_own(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Yield everything in `body` that runs in the same scope: nested definitions come up, but are
    not entered.
    """
    pending = list(reversed(body))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            below = children(node)
            below.reverse()
            pending.extend(below)


def blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the lists of statements directly inside a compound statement: body, else, handlers,
    cases.
    """
    for field in ("body", "orelse", "finalbody"):
        block = getattr(statement, field, None)
        if block:
            yield block
    for branch in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield branch.body


def definitions(tree: ast.Module) -> Iterator[Defined]:
    """Yield every function and class of a file in the order of the text, however deep."""
    pending: list[tuple[ast.stmt, str, Definition | None]] = [
        (item, "", None) for item in reversed(tree.body)
    ]
    while pending:
        statement, prefix, owner = pending.pop()
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            qualified = prefix + statement.name
            yield Defined(statement, qualified, owner)
            prefix, owner = qualified + ".", statement
        below = [(item, prefix, owner) for block in blocks(statement) for item in block]
        below.reverse()
        pending.extend(below)


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` for a chain of names and attributes, "" for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    parts.append(node.id)
    return ".".join(reversed(parts))


def decorator_names(node: Definition) -> tuple[str, ...]:
    """Return the dotted names of the decorators, called or not; "?" for any other form."""
    return tuple(
        dotted(item.func if isinstance(item, ast.Call) else item) or "?"
        for item in node.decorator_list
    )


def docstring_node(body: Sequence[ast.stmt]) -> ast.Expr | None:
    """Return the statement that is the docstring of a body, if it has one."""
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[0] if isinstance(body[0].value.value, str) else None
    return None


def is_string(node: ast.AST | None) -> bool:
    """Tell whether `node` is a plain string literal."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Return what the names bound by import statements anywhere in a file stand for: `{"sp":
    "subprocess"}`.
    """
    bound: dict[str, str] = {}
    for node in walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    bound[alias.asname] = alias.name
                else:
                    top = alias.name.partition(".")[0]
                    bound[top] = top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                bound[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return bound
