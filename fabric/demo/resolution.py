"""Which file of a tree an import statement means."""

from __future__ import annotations

from collections.abc import Iterator

from fabric.demo.symbols import FileSymbols, Import, Index


class Resolver:
    """Resolves the imports of an index to paths inside the tree.

    A file is known by its dotted path from the root, under the root's own package, and, below
    directories that are no packages (`src/`, `lib/`), by the rest of that path too. A lone module
    name is only taken from the importer's own directory: `scripts/json.py` is not what everybody
    else means by `json`.
    """

    def __init__(self, index: Index) -> None:
        self._files = {file.path: file for file in index.files}
        self._named: dict[str, list[str]] = {}
        packages = {
            path.rpartition("/")[0]
            for path in self._files
            if path.rpartition("/")[2] == "__init__.py"
        }
        for file in index.files:
            for name in _names(file, packages):
                self._named.setdefault(name, []).append(file.path)

    def targets(self, file: FileSymbols, item: Import) -> Iterator[tuple[str, str]]:
        """Yield the (path, name) that one import takes: the name is "" when it takes the module
        itself.

        `from package import part` takes the module `package.part` when there is one, else a name of
        the package. Yields nothing for what lies outside the tree.
        """
        if not item.name:
            path = self._path(file, item.module, 0)
            if path is not None:
                yield path, ""
            return
        if item.name != "*":
            inner = f"{item.module}.{item.name}" if item.module else item.name
            path = self._path(file, inner, item.level)
            if path is not None:
                yield path, ""
                return
        path = self._path(file, item.module, item.level)
        if path is not None:
            yield path, item.name

    def _path(self, file: FileSymbols, module: str, level: int) -> str | None:
        if level:
            return self._relative(file, module, level)
        if not module:
            return None
        candidates = self._named.get(module, [])
        folder = file.path.rpartition("/")[0]
        if "." not in module:
            beside = [
                path
                for path in candidates
                if _folder_of(path) == folder or _is_top(self._files[path], module)
            ]
            candidates = beside
        return max(candidates, key=lambda path: (_shared(path, file.path), path), default=None)

    def _relative(self, file: FileSymbols, module: str, level: int) -> str | None:
        folders = file.path.split("/")[:-1]
        if level - 1 > len(folders):
            return None
        parts = folders[: len(folders) - (level - 1)] + (module.split(".") if module else [])
        base = "/".join(parts)
        for path in (f"{base}.py", f"{base}/__init__.py" if base else "__init__.py"):
            if path in self._files:
                return path
        return None


def _names(file: FileSymbols, packages: set[str]) -> Iterator[str]:
    if not file.module:
        return
    yield file.module
    folders = file.path.split("/")[:-1]
    name = file.module
    for depth in range(len(folders)):
        if "/".join(folders[: depth + 1]) in packages or "." not in name:
            return
        if not name.startswith(f"{folders[depth]}."):
            return
        name = name.removeprefix(f"{folders[depth]}.")
        yield name


def _folder_of(path: str) -> str:
    """Return the directory from which a module or package is imported by its bare name."""
    folder, _, name = path.rpartition("/")
    return folder.rpartition("/")[0] if name == "__init__.py" else folder


def _is_top(file: FileSymbols, module: str) -> bool:
    """Tell whether `module` is a whole package, or a file directly in the root."""
    return file.path.endswith(f"{module}/__init__.py") or file.module == module


def _shared(left: str, right: str) -> int:
    count = 0
    for one, other in zip(left.split("/"), right.split("/"), strict=False):
        if one != other:
            break
        count += 1
    return count
