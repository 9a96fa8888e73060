"""What git makes of two copies: real git, worktrees, and clones."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fabric.devserver.merge import Trial, UnknownError, merge
from tests.support.git import git, repository

LINES = [f"line {number}\n" for number in range(40)]


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    """Two worktrees of one repository, on branches of their own."""
    main = repository(tmp_path / "main", "src/a.txt", "src/b.txt", "bin", "app/[id].txt")
    for name in ("src/a.txt", "src/b.txt", "app/[id].txt"):
        (main / name).write_text("".join(LINES))
    (main / "bin").write_bytes(bytes(range(256)))
    git(main, "commit", "-q", "-a", "-m", "content")
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        git(main, "worktree", "add", "-q", "-b", folder.name, str(folder))
    return one, two


def tried(copies: tuple[Path, Path], resources: list[str]) -> Trial:
    return merge(str(copies[0]), str(copies[1]), resources)


def put(folder: Path, name: str, *numbers: int, word: str = "") -> None:
    """Change some lines of a file."""
    lines = [*LINES]
    for number in numbers:
        lines[number] = f"{word or folder.name} was here\n"
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("".join(lines))


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "work")


def edits(mine: int, theirs: int, word: str = "") -> Callable[[Path, Path], None]:
    def change(one: Path, two: Path) -> None:
        put(one, "src/a.txt", mine, word=word)
        put(two, "src/a.txt", theirs, word=word)

    return change


def added(*words: str) -> Callable[[Path, Path], None]:
    def change(one: Path, two: Path) -> None:
        for folder, word in zip((one, two), words, strict=True):
            (folder / "new.txt").write_text(word)

    return change


def renamed(number: int) -> Callable[[Path, Path], None]:
    def change(one: Path, two: Path) -> None:
        git(one, "mv", "src/a.txt", "src/c.txt")
        put(one, "src/c.txt", 5)
        put(two, "src/a.txt", number)

    return change


def renamed_and_deleted(one: Path, two: Path) -> None:
    git(one, "mv", "src/a.txt", "src/c.txt")
    git(two, "rm", "-q", "src/a.txt")


def deleted(one: Path, two: Path) -> None:
    (one / "src/a.txt").unlink()
    put(two, "src/a.txt", 5)


def deleted_twice(one: Path, two: Path) -> None:
    (one / "src/a.txt").unlink()
    (two / "src/a.txt").unlink()


def binary(one: Path, two: Path) -> None:
    (one / "bin").write_bytes(bytes(range(255)))
    (two / "bin").write_bytes(bytes(range(1, 256)))


def moded(one: Path, two: Path) -> None:
    (one / "src/a.txt").chmod(0o755)
    put(two, "src/a.txt", 5)


def linked(one: Path, two: Path) -> None:
    (one / "src/a.txt").unlink()
    (one / "src/a.txt").symlink_to("b.txt")
    put(two, "src/a.txt", 5)


def in_a_folder(one: Path, two: Path) -> None:
    (one / "src/a.txt").unlink()
    (one / "src/a.txt").mkdir()
    (one / "src/a.txt/x").write_text("x")
    put(two, "src/a.txt", 5)


def odd_name(one: Path, two: Path) -> None:
    put(one, "app/[id].txt", 5)
    put(two, "app/[id].txt", 5)


CASES: dict[str, tuple[Callable[[Path, Path], None], str, bool]] = {
    "far apart": (edits(5, 20), "src/a.txt", False),
    "the same line": (edits(5, 5), "src/a.txt", True),
    "the same line, alike": (edits(5, 5, "both"), "src/a.txt", False),
    "lines that touch": (edits(5, 6), "src/a.txt", True),
    "a line between": (edits(5, 7), "src/a.txt", False),
    "added by both": (added("one", "two"), "new.txt", True),
    "added by both, alike": (added("one", "one"), "new.txt", False),
    "renamed, and edited far apart": (renamed(20), "src/a.txt", False),
    "renamed, and edited at one line": (renamed(5), "src/a.txt", True),
    "renamed and deleted": (renamed_and_deleted, "src/a.txt", True),
    "deleted and edited": (deleted, "src/a.txt", True),
    "deleted by both": (deleted_twice, "src/a.txt", False),
    "binary": (binary, "bin", True),
    "mode and content": (moded, "src/a.txt", False),
    "a link and a file": (linked, "src/a.txt", True),
    "a folder and a file": (in_a_folder, "src/a.txt", True),
    "a folder that is claimed": (edits(5, 5), "src/**", True),
    "another folder": (edits(5, 5), "app/**", False),
    "a name in brackets": (odd_name, "app/[id].txt", True),
}


@pytest.mark.parametrize("is_committed", [False, True], ids=["as it is", "committed"])
@pytest.mark.parametrize("name", CASES)
def test_it_says_what_git_will_find(
    copies: tuple[Path, Path], name: str, is_committed: bool
) -> None:
    change, resource, is_conflict = CASES[name]
    change(*copies)
    before = [git(one, "status", "--porcelain") for one in copies]
    if is_committed:
        for one in copies:
            commit(one)
    expected = Trial([resource], []) if is_conflict else Trial([], [resource])
    mine, theirs = map(str, copies)
    more = ["src/c.txt"] if "renamed" in name else []
    assert merge(mine, theirs, [resource], more) == expected
    assert merge(theirs, mine, [resource], more) == expected
    if not is_committed:
        assert [git(one, "status", "--porcelain") for one in copies] == before


def test_one_has_committed_and_the_other_goes_on(copies: tuple[Path, Path]) -> None:
    edits(5, 20)(*copies)
    commit(copies[0])
    put(copies[0], "src/a.txt", 20)
    assert tried(copies, ["src/a.txt", "src/b.txt"]) == (["src/a.txt"], ["src/b.txt"])
    git(copies[0], "checkout", "-q", "src/a.txt")
    assert tried(copies, ["src/a.txt"]) == ([], ["src/a.txt"])


def test_clones_are_merged_too(copies: tuple[Path, Path], tmp_path: Path) -> None:
    one, _ = copies
    far = tmp_path / 'a clone: "far"'
    git(tmp_path, "clone", "-q", str(tmp_path / "main"), str(far))
    edits(5, 5)(one, far)
    commit(far)
    assert merge(str(one), str(far), ["src/a.txt"]) == (["src/a.txt"], [])


def test_paths_begin_at_the_top_of_the_project(copies: tuple[Path, Path]) -> None:
    edits(5, 5)(*copies)
    one, two = (str(folder / "src") for folder in copies)
    assert merge(one, two, ["a.txt", "b.txt"]) == (["a.txt"], ["b.txt"])


def test_nobody_can_say_what_a_program_of_the_repository_merges(
    copies: tuple[Path, Path], tmp_path: Path
) -> None:
    one, two = copies
    edits(5, 5)(one, two)
    odd_name(one, two)
    for folder in copies:
        (folder / ".gitattributes").write_text("src/*.txt merge=own\n*.txt filter=own\n")
        commit(folder)
    ran = tmp_path / "ran"
    program = f"sh -c 'touch {ran}; exit 0'"
    for name in ("merge.own.driver", "filter.own.clean", "filter.own.smudge", "core.fsmonitor"):
        git(one, "config", name, program)
    assert merge(str(one), str(two), ["src/a.txt", "app/[id].txt"]) == (["app/[id].txt"], [])
    assert not ran.exists()


def test_nobody_can_say_what_is_in_a_submodule(copies: tuple[Path, Path], tmp_path: Path) -> None:
    other = repository(tmp_path / "library", "lib.c")
    for folder in copies:
        git(folder, "submodule", "-q", "add", str(other), "sub")
        commit(folder)
        (folder / "sub/lib.c").write_text(folder.name)
    assert tried(copies, ["sub/lib.c", "src/a.txt"]) == ([], ["src/a.txt"])


@pytest.mark.parametrize("where", ["no repository", "no commit", "gone", "another history"])
def test_nobody_can_say_without_two_copies(
    copies: tuple[Path, Path], tmp_path: Path, where: str
) -> None:
    other = tmp_path / "other"
    if where != "gone":
        other.mkdir()
    if where == "no commit":
        git(other, "init", "-q")
    if where == "another history":
        repository(other, "src/a.txt")
    with pytest.raises(UnknownError):
        merge(str(copies[0]), str(other), ["src/a.txt"])


def test_it_leaves_nothing_behind(copies: tuple[Path, Path]) -> None:
    edits(5, 5)(*copies)
    before = git(copies[0], "count-objects", "-v")
    # A hook of git has these, of its own repository.
    os.environ["GIT_INDEX_FILE"] = os.environ["GIT_DIR"] = "/nowhere"
    try:
        tried(copies, ["src/a.txt"])
    finally:
        del os.environ["GIT_INDEX_FILE"], os.environ["GIT_DIR"]
    assert git(copies[0], "count-objects", "-v") == before
