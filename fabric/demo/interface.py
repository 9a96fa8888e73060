"""What one file takes from others and offers to them: its imports and its `__all__`."""

from __future__ import annotations

import ast
from typing import NamedTuple

from fabric.demo.symbols import Import
from fabric.demo.syntax import blocks, children, dotted, is_string


class _Around(NamedTuple):
    """What the statements around an import say about it."""

    deferred: bool = False
    guarded: bool = False
    in_class: bool = False


def imports(tree: ast.Module) -> list[Import]:
    """Return every imported name of a file with how it is imported, in the order of the text."""
    found: list[Import] = []
    pending = [(item, _Around()) for item in reversed(tree.body)]
    while pending:
        node, around = pending.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(_import(node, alias, around) for alias in node.names)
        else:
            pending.extend(reversed(_below(node, around)))
    return found


def _import(node: ast.Import | ast.ImportFrom, alias: ast.alias, around: _Around) -> Import:
    if isinstance(node, ast.ImportFrom):
        module, name, level, bound = node.module or "", alias.name, node.level, alias.name
    else:
        module, name, level, bound = alias.name, "", 0, alias.name.partition(".")[0]
    return Import(
        module=module,
        line=alias.lineno,
        statement_line=node.lineno,
        bound=alias.asname or bound,
        name=name,
        level=level,
        deferred=around.deferred,
        guarded=around.guarded,
        explicit=alias.asname == alias.name or around.in_class,
    )


def _below(node: ast.stmt, around: _Around) -> list[tuple[ast.stmt, _Around]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        inside = _Around(deferred=True, guarded=around.guarded)
        return [(item, inside) for item in node.body]
    if isinstance(node, ast.ClassDef):
        inside = around._replace(in_class=True)
        return [(item, inside) for item in node.body]
    if isinstance(node, ast.If) and _is_never_at_load(node.test):
        inside = around._replace(deferred=True)
        return [(item, inside) for item in node.body] + [(item, around) for item in node.orelse]
    if isinstance(node, ast.Try) and any(_expects_import_error(item) for item in node.handlers):
        around = around._replace(guarded=True)
    return [(item, around) for block in blocks(node) for item in block]


def _is_never_at_load(test: ast.expr) -> bool:
    if dotted(test).rpartition(".")[2] == "TYPE_CHECKING":
        return True
    return isinstance(test, ast.Compare) and dotted(test.left) == "__name__"


def _expects_import_error(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    expected = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")
    return any(kind is None or dotted(kind) in expected for kind in kinds)


def exports(tree: ast.Module) -> list[str]:
    """Return the names in `__all__`, as far as they are written down, sorted."""
    names: set[str] = set()
    for node in tree.body:
        value: ast.expr | None = None
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = node.value if "__all__" in map(dotted, targets) else None
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if dotted(call.func) in ("__all__.append", "__all__.extend") and call.args:
                value = call.args[0]
        if value is not None:
            names.update(_strings(value))
    return sorted(name for name in names if name.isidentifier())


def _strings(value: ast.expr) -> list[str]:
    pending: list[ast.AST] = [value]
    found: list[str] = []
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Constant) and is_string(node):
            found.append(str(node.value))
        else:
            pending.extend(children(node))
    return found
