"""Makes the symbols of one file from its syntax tree, in one pass."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fabric.demo.interface import exports, imports
from fabric.demo.source import Source
from fabric.demo.symbols import FileSymbols, Symbol, module_of
from fabric.demo.syntax import (
    Definition,
    blocks,
    children,
    decorator_names,
    definitions,
    dotted,
)

#: Characters of a string that is searched for names. Longer ones are prose or data.
QUOTED_CHARS_MAX = 200

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_CODE_LIKE = re.compile(r"[\w.:\[\]|, -]+", re.ASCII)
_PREFIX = re.compile(r"([A-Za-z_]\w*_)(?:%s|\{.*)?", re.ASCII)
_SUFFIX = re.compile(r"(?:%s|.*\})?(_\w+)", re.ASCII)
_CONSTANT = re.compile(r"_*[A-Z][A-Z0-9_]+")
#: Calls whose string arguments are types.
_TYPE_CALLS = frozenset({"cast", "TypeVar", "NewType", "ForwardRef", "assert_type"})


def summarise(source: Source, tree: ast.Module, package: str = "") -> FileSymbols:
    """Return what `source`, parsed as `tree`, defines and mentions. Pure."""
    symbols = _symbols(tree)
    mentions = _Mentions({id(made.node): made for made in symbols if made.node is not None})
    mentions.collect(tree)
    names = mentions.names
    if "# type:" in source.text:
        for line in source.lines:
            names.update(_IDENTIFIER.findall(line.partition("# type:")[2]))
    return FileSymbols(
        path=source.path,
        module=module_of(source.path, package),
        symbols=tuple(made.symbol() for made in symbols),
        imports=tuple(imports(tree)),
        exports=tuple(exports(tree)),
        names=dict(names),
        attributes=dict(mentions.attributes),
        quoted=tuple(sorted(mentions.quoted)),
        prefixes=tuple(sorted(mentions.prefixes)),
        suffixes=tuple(sorted(mentions.suffixes)),
    )


@dataclass(slots=True)
class _Made:
    """A symbol while its own mentions are still being counted."""

    name: str
    kind: str
    line: int
    qualified: str
    node: Definition | None = None
    owner: str = ""
    self_references: int = 0

    def symbol(self) -> Symbol:
        node = self.node
        bases: tuple[str, ...] = ()
        has_metaclass = False
        if isinstance(node, ast.ClassDef):
            # `Generic[T]` and `Base[int]` count as the plain name; anything else cannot be
            # resolved.
            plain = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
            bases = tuple(dotted(base) or "?" for base in plain)
            has_metaclass = any(word.arg in (None, "metaclass") for word in node.keywords)
        decorators = decorator_names(node) if node is not None else ()
        return Symbol(
            name=self.name,
            kind=self.kind,
            line=self.line,
            qualified=self.qualified,
            owner=self.owner,
            decorators=decorators,
            bases=bases,
            has_metaclass=has_metaclass,
            self_references=self.self_references,
        )


def _symbols(tree: ast.Module) -> list[_Made]:
    made: list[_Made] = []
    for defined in definitions(tree):
        node, owner = defined.node, defined.owner
        in_class = isinstance(owner, ast.ClassDef)
        kind = "class" if isinstance(node, ast.ClassDef) else "method" if in_class else "function"
        within = defined.qualified.rpartition(".")[0] if in_class else ""
        made.append(_Made(node.name, kind, node.lineno, defined.qualified, node, within))
    made.extend(_constants(tree))
    return made


def _constants(tree: ast.Module) -> list[_Made]:
    found: dict[str, _Made] = {}
    pending: list[ast.stmt] = list(reversed(tree.body))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name) and _CONSTANT.fullmatch(target.id):
                    found.setdefault(
                        target.id, _Made(target.id, "constant", node.lineno, target.id)
                    )
        pending.extend(reversed([item for block in blocks(node) for item in block]))
    return list(found.values())


#: A node to visit, the definitions around it, and whether strings in it are types.
_Pending = tuple[ast.AST, tuple[_Made, ...], bool]


@dataclass(slots=True)
class _Mentions:
    """Counts names, with the definitions around each place at hand to tell recursion from use."""

    made: dict[int, _Made]
    names: Counter[str] = field(default_factory=Counter)
    attributes: Counter[str] = field(default_factory=Counter)
    quoted: set[str] = field(default_factory=set)
    prefixes: set[str] = field(default_factory=set)
    suffixes: set[str] = field(default_factory=set)

    def collect(self, tree: ast.Module) -> None:
        pending: list[_Pending] = [(tree, (), False)]
        while pending:
            node, around, typed = pending.pop()
            if isinstance(node, ast.Name):
                self._name(node, around)
            elif isinstance(node, ast.Constant):
                if isinstance(node.value, str):
                    self._string(node.value, typed)
            else:
                pending.extend(self._below(node, around, typed))

    def _below(self, node: ast.AST, around: tuple[_Made, ...], typed: bool) -> Iterator[_Pending]:
        """Count what `node` itself mentions, and yield its children with what is around them."""
        if isinstance(node, ast.Attribute):
            self.attributes[node.attr] += 1
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                self._count_own(node.attr, around)
        elif isinstance(node, ast.JoinedStr) and len(node.values) > 1:
            self._affixes(node.values[0], node.values[-1])
        elif isinstance(node, ast.BinOp):
            self._affixes(node.left, node.right)
        inner = around
        if id(node) in self.made:
            inner = (*around, self.made[id(node)])
        types = _typed_children(node)
        body = getattr(node, "body", ()) if inner is not around else ()
        inside = {id(item) for item in body}
        for child in children(node):
            # Decorators, defaults and bases run outside the definition; only its body is its own.
            scope = inner if id(child) in inside else around
            yield child, scope, typed or id(child) in types

    def _name(self, node: ast.Name, around: tuple[_Made, ...]) -> None:
        if not isinstance(node.ctx, ast.Store):
            self.names[node.id] += 1
            self._count_own(node.id, around)

    def _count_own(self, name: str, around: tuple[_Made, ...]) -> None:
        for made in around:
            if made.name == name:
                made.self_references += 1

    def _string(self, text: str, typed: bool) -> None:
        if len(text) > QUOTED_CHARS_MAX or not text:
            return
        prefix, suffix = _PREFIX.fullmatch(text), _SUFFIX.fullmatch(text)
        if prefix:
            self.prefixes.add(prefix[1])
        if suffix and text.startswith("%s"):
            self.suffixes.add(suffix[1])
        if typed:
            self.names.update(_IDENTIFIER.findall(text))
        elif _CODE_LIKE.fullmatch(text) and (" " not in text or "[" in text or "|" in text):
            self.quoted.update(_IDENTIFIER.findall(text))

    def _affixes(self, first: ast.expr, last: ast.expr) -> None:
        """Note the fixed part of a name that is put together from two parts."""
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            prefix = _PREFIX.fullmatch(first.value[:QUOTED_CHARS_MAX])
            if prefix:
                self.prefixes.add(prefix[1])
        if isinstance(last, ast.Constant) and isinstance(last.value, str):
            suffix = _SUFFIX.fullmatch(last.value[-QUOTED_CHARS_MAX:])
            if suffix:
                self.suffixes.add(suffix[1])


def _typed_children(node: ast.AST) -> set[int]:
    """Return the ids of the children of `node` that are types, where a string is a forward
    reference.
    """
    if isinstance(node, ast.arg | ast.AnnAssign):
        return {id(node.annotation)}
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return {id(node.returns)}
    if isinstance(node, ast.Subscript):
        return {id(node.slice)} if dotted(node.value).rpartition(".")[2][:1].isupper() else set()
    if isinstance(node, ast.Call) and dotted(node.func).rpartition(".")[2] in _TYPE_CALLS:
        return {id(item) for item in (*node.args, *node.keywords)}
    return set()
