"""SAFETY: code that hides errors, runs foreign text, or gives a secret away."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fabric.demo.excerpt import excerpt
from fabric.demo.finding import Finding, Rule, Severity
from fabric.demo.reviews.review import found
from fabric.demo.secret import is_secret
from fabric.demo.source import Problem, Source
from fabric.demo.syntax import definitions, dotted, imported_names, is_string, walk, walk_own

ASSERT_TUPLE = Rule(
    "assert-on-tuple",
    Severity.HIGH,
    "Remove the parentheses: a tuple that is not empty is always true.",
)
SHELL = Rule("subprocess-shell", Severity.HIGH, "Pass a list of arguments, and leave `shell` out.")
EVAL = Rule(
    "eval-or-exec", Severity.HIGH, "Use ast.literal_eval, a table of functions, or a real parser."
)
YAML_LOAD = Rule("unsafe-yaml-load", Severity.HIGH, "Use yaml.safe_load.")
PASSWORD = Rule(
    "hard-coded-secret",
    Severity.HIGH,
    "Read it from the environment or a secret store, and change it.",
    0.7,
)
PICKLE_LOAD = Rule(
    "pickle-load",
    Severity.MEDIUM,
    "Load only what you wrote yourself; use JSON for anything from outside.",
    0.8,
)
MUTABLE_DEFAULT = Rule(
    "mutable-default",
    Severity.MEDIUM,
    "Use None as the default, and make the object inside the function.",
)
BARE_EXCEPT = Rule(
    "bare-except",
    Severity.MEDIUM,
    "Name the exceptions: this one catches Ctrl-C and SystemExit too.",
)
SWALLOWED = Rule(
    "swallowed-exception", Severity.MEDIUM, "Catch what you expect, or at least log it."
)
NONE_COMPARISON = Rule("comparison-with-none", Severity.LOW, "Write `is None` or `is not None`.")

_SUBPROCESS_CALLS = frozenset(
    f"subprocess.{name}"
    for name in ("run", "call", "check_call", "check_output", "Popen", "getoutput")
)
_PICKLE_CALLS = frozenset(
    f"{module}.{name}"
    for module in ("pickle", "cPickle", "_pickle", "dill", "cloudpickle")
    for name in ("load", "loads")
)
_UNSAFE_LOADERS = frozenset({"Loader", "UnsafeLoader", "CLoader"})
_MUTABLE_CALLS = frozenset(
    {"list", "dict", "set", "bytearray"}
    | {f"collections.{name}" for name in ("defaultdict", "deque", "OrderedDict", "Counter")}
)
#: Calls that build a query out of a comparison, where `== None` is how the query says IS NULL.
_QUERY_CALLS = frozenset(
    {"filter", "where", "having", "filter_by", "and_", "or_", "not_", "case", "on", "join"}
)


class Safety:
    """Looks at every node of a file once."""

    rules = (
        *(ASSERT_TUPLE, SHELL, EVAL, YAML_LOAD, PASSWORD),
        *(PICKLE_LOAD, MUTABLE_DEFAULT, BARE_EXCEPT, SWALLOWED, NONE_COMPARISON),
    )

    def check(self, source: Source) -> Iterator[Finding]:
        """Yield what is wrong in one file."""
        tree = source.parse()
        if isinstance(tree, Problem):
            return
        names = imported_names(tree)
        # A function of the file that is called eval is not the dangerous one.
        own = {defined.node.name for defined in definitions(tree) if defined.owner is None}
        place = _Place(source, names, own, set())
        for node in walk(tree):
            for check in _CHECKS.get(type(node), ()):
                yield from check(place, node)


@dataclass(frozen=True, slots=True)
class _Place:
    """A file while it is checked: what its imports stand for, its own names, and the comparisons of
    queries.
    """

    source: Source
    names: dict[str, str]
    own: set[str]
    queries: set[int]

    def called(self, node: ast.Call) -> str:
        """Return the full name of what is called: `sp.run` may be `subprocess.run`."""
        name = dotted(node.func)
        first, dot, rest = name.partition(".")
        return self.names.get(first, first) + dot + rest


def _handler(place: _Place, node: ast.ExceptHandler) -> Iterator[Finding]:
    if node.type is None:
        # Whoever cleans up and raises again hides nothing.
        if not any(isinstance(item, ast.Raise) for item in walk_own(node.body)):
            yield found(
                place.source, BARE_EXCEPT, node.lineno, "catches everything, Ctrl-C included"
            )
        return
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    broad = next(
        (name for name in map(dotted, kinds) if name in ("Exception", "BaseException")), None
    )
    if broad and all(_does_nothing(item) for item in node.body):
        yield found(
            place.source, SWALLOWED, node.lineno, f"every {broad} is dropped without a trace"
        )


def _does_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _defaults(
    place: _Place, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
) -> Iterator[Finding]:
    positional = [*node.args.posonlyargs, *node.args.args]
    pairs: list[tuple[ast.arg, ast.expr | None]] = list(
        zip(
            positional[len(positional) - len(node.args.defaults) :], node.args.defaults, strict=True
        )
    )
    pairs.extend(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    for parameter, default in pairs:
        if default is None:
            continue
        if _is_mutable(place, default):
            message = f"the default of `{excerpt(parameter.arg)}` is shared by all calls"
            yield found(place.source, MUTABLE_DEFAULT, default.lineno, message)
        yield from _secret(place, parameter.arg, default, default.lineno)


def _is_mutable(place: _Place, node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return place.called(node) in _MUTABLE_CALLS
    return isinstance(
        node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
    )


def _call(place: _Place, node: ast.Call) -> Iterator[Finding]:
    name = place.called(node)
    line = node.lineno
    if name in ("eval", "exec") and node.args and name not in place.own:
        is_fixed = is_string(node.args[0])
        what = "a fixed string" if is_fixed else "whatever text it is given"
        severity = _severity(place, is_fixed)
        yield found(place.source, EVAL, line, f"{name} runs {what}", severity=severity)
    elif name in _SUBPROCESS_CALLS:
        yield from _shell(place, node, name)
    elif name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all"):
        yield from _yaml(place, node, name)
    elif name in _PICKLE_CALLS and not place.source.is_test:
        inner = node.args[0] if node.args else None
        is_copy = isinstance(inner, ast.Call) and dotted(inner.func).rpartition(".")[2] == "dumps"
        if not is_copy:
            message = f"{name} runs code from the data that it loads"
            yield found(place.source, PICKLE_LOAD, line, message)
    last = node.func.attr if isinstance(node.func, ast.Attribute) else name
    if last in _QUERY_CALLS:
        place.queries.update(id(item) for item in walk(*node.args) if isinstance(item, ast.Compare))
    for word in node.keywords:
        yield from _secret(place, word.arg or "", word.value, word.lineno)


def _shell(place: _Place, node: ast.Call, name: str) -> Iterator[Finding]:
    for word in node.keywords:
        is_on = isinstance(word.value, ast.Constant) and word.value.value is True
        if word.arg == "shell" and is_on:
            is_fixed = bool(node.args) and is_string(node.args[0])
            severity = _severity(place, is_fixed)
            what = "a fixed command" if is_fixed else "a command put together at run time"
            message = f"{name} gives {what} to the shell"
            yield found(place.source, SHELL, node.lineno, message, severity=severity)


def _severity(place: _Place, is_fixed: bool) -> Severity:
    """What runs text is harmless when the text is fixed, and nearly so in a test."""
    return Severity.LOW if is_fixed or place.source.is_test else Severity.HIGH


def _yaml(place: _Place, node: ast.Call, name: str) -> Iterator[Finding]:
    loader: ast.expr | None = node.args[1] if len(node.args) > 1 else None
    for word in node.keywords:
        if word.arg in ("Loader", None):
            loader = word.value
    if name.startswith("yaml.unsafe"):
        message = f"{name} builds any Python object that the text asks for"
        yield found(place.source, YAML_LOAD, node.lineno, message)
    elif loader is None:
        yield found(place.source, YAML_LOAD, node.lineno, f"{name} without a loader")
    elif dotted(loader).rpartition(".")[2] in _UNSAFE_LOADERS:
        message = f"{name} with a loader that builds any Python object"
        yield found(place.source, YAML_LOAD, node.lineno, message)


def _assertion(place: _Place, node: ast.Assert) -> Iterator[Finding]:
    if isinstance(node.test, ast.Tuple) and node.test.elts:
        yield found(place.source, ASSERT_TUPLE, node.lineno, "the assertion can never fail")


def _comparison(place: _Place, node: ast.Compare) -> Iterator[Finding]:
    if id(node) in place.queries:
        return
    operands = [node.left, *node.comparators]
    for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
        is_none = any(
            isinstance(side, ast.Constant) and side.value is None for side in (left, right)
        )
        if is_none and isinstance(operator, ast.Eq | ast.NotEq):
            sign = "==" if isinstance(operator, ast.Eq) else "!="
            yield found(place.source, NONE_COMPARISON, node.lineno, f"compares with None by {sign}")
            return


def _assignment(place: _Place, node: ast.Assign | ast.AnnAssign) -> Iterator[Finding]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        name = dotted(target).rpartition(".")[2]
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            name = str(target.slice.value)
        if node.value is not None:
            yield from _secret(place, name, node.value, node.lineno)


def _dictionary(place: _Place, node: ast.Dict) -> Iterator[Finding]:
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield from _secret(place, key.value, value, key.lineno)


def _secret(place: _Place, name: str, value: ast.expr, line: int) -> Iterator[Finding]:
    if (
        place.source.is_test
        or not isinstance(value, ast.Constant)
        or not isinstance(value.value, str)
    ):
        return
    if is_secret(name, value.value):
        yield found(
            place.source, PASSWORD, line, f"the value of `{excerpt(name)}` stands in the source"
        )


_CHECKS: dict[type[ast.AST], tuple[Callable[[_Place, Any], Iterator[Finding]], ...]] = {
    ast.ExceptHandler: (_handler,),
    ast.FunctionDef: (_defaults,),
    ast.AsyncFunctionDef: (_defaults,),
    ast.Lambda: (_defaults,),
    ast.Call: (_call,),
    ast.Assert: (_assertion,),
    ast.Compare: (_comparison,),
    ast.Assign: (_assignment,),
    ast.AnnAssign: (_assignment,),
    ast.Dict: (_dictionary,),
}
