"""What a file is called in claims: every spelling of it, on a real file system."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.resource import overlap
from fabric.devserver import path as module
from fabric.devserver.path import Files, files_here, folds_case, named
from tests.support.effort import examples
from tests.support.git import git, repository


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a project, with links, odd names and a worktree inside and one outside."""
    top = repository(
        tmp_path_factory.mktemp("files") / "main",
        "README.md", "a.py", "src/a.py", "src/lib/b.py", "app/[id]/page.tsx",
        "app/[userId]/page.tsx", "odd/x,y.txt", "odd/{a,b}.txt", "odd/st*r", "odd/back\\slash",
        "caf\u00e9.py", "odd/[a]", "two words.txt",
    )  # fmt: skip
    (top / "link.py").symlink_to("src/a.py")
    (top / "folder").symlink_to("src")
    (top / "src" / "up").symlink_to("..")
    (top / "outside").symlink_to(top.parent / "elsewhere")
    (top / "loop").symlink_to("loop")
    (top.parent / "elsewhere").mkdir()
    (top.parent / "elsewhere" / "c.py").touch()
    git(top, "worktree", "add", "-q", "trees/wa")
    git(top, "worktree", "add", "-q", str(top.parent / "wb"))
    (top.parent / "main-link").symlink_to(top)
    return top


#: Two spellings, and whether agents that write under them exclude each other. `{top}` is the top.
PAIRS = [
    # what an agent may mean by a file
    ("src/a.py", "src/a.py", True),
    ("src/a.py", "./src/a.py", True),
    ("src/a.py", "src//a.py", True),
    ("src/a.py", "src/./a.py", True),
    ("src/a.py", "src/lib/../a.py", True),
    ("src/a.py", "../main/src/a.py", True),
    ("src/a.py", "src\\a.py", True),
    ("src/a.py", ".\\src\\lib\\..\\a.py", True),
    ("src/a.py", "{top}/src/a.py", True),
    ("src/a.py", "{top}//src/./a.py", True),
    ("src/a.py", "{top}/../main/src/a.py", True),
    ("src/a.py", "file://{top}/src/a.py", True),
    ("src/a.py", "file://localhost{top}/src/a.py", True),
    ("src/a.py", "file:{top}/src/a.py", True),
    ("src/a.py", "FILE://{top}/src/%61.py", True),
    ("two words.txt", "file://{top}/two%20words.txt", True),
    ("a.py", "src/a.py", False),
    ("src/a.py", "src/b.py", False),
    ("src/a.py", "/src/a.py", False),
    ("src/a.py", "https://example.org/src/a.py", False),
    # folders
    ("src", "src/a.py", True),
    ("src/", "src/a.py", True),
    ("src/.", "src/lib/b.py", True),
    ("src", "src/new/file.py", True),
    ("src", "**/new.py", True),
    ("src", "lib/a.py", False),
    ("src/lib", "src/a.py", False),
    (".", "anything/at/all", True),
    ("{top}", "src/a.py", True),
    ("new/folder", "new/folder/file", True),
    # lists and braces
    ("src/{a,b}.py", "src/a.py", True),
    ("src/{a,b}.py", "src/c.py", False),
    ("src/a.py,src/b.py", "src/b.py", True),
    ("src/a.py, src/b.py", "src/b.py", True),
    ("{top}/src/{a,b}.py", "src/b.py", True),
    ("part{1..3}", "part2", True),
    ("part{1..3}", "part4", False),
    # links
    ("link.py", "src/a.py", True),
    ("folder/a.py", "src/a.py", True),
    ("folder", "src/a.py", True),
    ("folder/*.py", "src/a.py", True),
    ("src/up/src/a.py", "src/a.py", True),
    ("folder/../a.py", "a.py", True),
    ("src/up/a.py", "a.py", True),
    ("src/up/../a.py", "a.py", False),  # the folder above the top
    ("outside/c.py", "../elsewhere/c.py", True),
    ("outside/c.py", "c.py", False),
    ("loop", "loop", True),
    ("{top}-link/src/a.py", "src/a.py", True),
    # worktrees of the project
    ("trees/wa/src/a.py", "src/a.py", True),
    ("../wb/src/a.py", "src/a.py", True),
    ("{top}/../wb/src/new.py", "src/new.py", True),
    ("../wb/src/a.py", "src/b.py", False),
    # globs
    ("src/*.py", "src/a.py", True),
    ("src/*.py", "src/lib/b.py", False),
    ("src/**", "src/lib/b.py", True),
    ("**/*.py", "src/lib/b.py", True),
    ("src/?.py", "src/a.py", True),
    ("src/[a-c].py", "src/a.py", True),
    ("src/[!a].py", "src/a.py", False),
    ("{top}/src/*.py", "src/a.py", True),
    # odd names
    ("app/[id]/page.tsx", "app/[userId]/page.tsx", False),
    ("app/[id]", "app/[id]/page.tsx", True),
    ("app/[id]", "app/[userId]/page.tsx", False),
    ("odd/x,y.txt", "odd/x,y.txt", True),
    ("odd/x,y.txt", "odd/x", False),
    ("odd/{a,b}.txt", "odd/a.txt", False),
    ("odd/st*r", "odd/star", False),
    ("odd/back\\slash", "odd/back/slash", False),
    ("odd/[a]", "odd/a", False),
    ("odd/x,y.txt", "odd/*.txt", True),
    ("caf\u00e9.py", "cafe\u0301.py", True),
    ("cafe\u0301/new.py", "caf\u00e9/new.py", True),
    # names that are no files
    ("port-8080", "port-8080", True),
    ("port-8080", "port-8081", False),
    ("db:main", "db:main", True),
    ("s3://bucket/x", "s3://bucket/x", True),
    ("s3://bucket/x", "bucket/x", False),
]


@pytest.mark.parametrize(("a", "b", "expected"), PAIRS)
def test_two_spellings_are_the_same_thing_or_not(
    here: Path, a: str, b: str, expected: bool
) -> None:
    files = Files(here)
    mine, theirs = (files.names([text.replace("{top}", str(here))]) for text in (a, b))
    assert any(overlap(one, other) for one in mine for other in theirs) is expected
    for names in (mine, theirs):
        assert files.names(names) == names, "a name is its own name"


def test_there_are_enough_spellings() -> None:
    assert len(PAIRS) >= 60


def test_names_of_one_copy_are_those_of_another(here: Path) -> None:
    far = here.parent / "wb"
    assert Files(far).name("src/a.py") == Files(here).name("src/a.py") == "src/a.py"
    assert Files(far).name(str(here / "src/a.py")) == "src/a.py"


#: Ways through the folders of `here`, as a program writes them.
steps = st.lists(
    st.sampled_from(
        ["src", "lib", "folder", "up", "..", ".", "", "link.py", "a.py", "b.py", "new"]
    ),
    min_size=1,
    max_size=5,
).map("/".join)


@examples(300)
@given(steps, steps)
def test_one_file_on_disk_is_one_resource_and_no_other(here: Path, a: str, b: str) -> None:
    files = Files(here)
    paths = [os.path.realpath(here / one) for one in (a, b)]
    names = [files.name(one) for one in (a, b)]
    if not a.strip("/.") or not b.strip("/.") or a.startswith("/") or b.startswith("/"):
        return
    is_same = paths[0] == paths[1]
    is_within = any(x.startswith(f"{y}/") for x, y in (paths, paths[::-1]))
    assert overlap(names[0], names[1]) is (is_same or is_within), (paths, names)


@pytest.fixture
def folding(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on a file system that folds case."""
    given = os.environ.get("FABRIC_TEST_FOLDING")
    if given is None and not (tmp_path / "A").exists():
        (tmp_path / "a").touch()
        if not (tmp_path / "A").exists():
            pytest.skip("no file system here folds case (FABRIC_TEST_FOLDING, CONTRIBUTING.md)")
    with TemporaryDirectory(dir=given or tmp_path) as folder:
        yield Path(folder)


class TestFoldingCase:
    """As on macOS and Windows: with a switch, and on such a file system where there is one."""

    @pytest.fixture(params=["switch", "real"])
    def files(self, request: pytest.FixtureRequest, tmp_path: Path) -> Files:
        is_real = request.param == "real"
        top: Path = request.getfixturevalue("folding") if is_real else tmp_path
        (top / "Docs").mkdir()
        (top / "README.md").touch()
        # A file system need not fold two normal forms of one letter.
        (top / "Docs" / ("\u00e9t\u00e9.md" if is_real else "e\u0301t\u00e9.md")).touch()
        return Files(top) if is_real else Files(top, folds=lambda folder: True)

    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            ("README.md", "readme.md", True),
            ("README.md", "ReadMe.MD", True),
            ("docs/new.md", "Docs/New.md", True),
            ("docs", "DOCS/new.md", True),
            ("docs/\u00c9T\u00c9.md", "Docs/\u00e9t\u00e9.md", True),
            ("DOCS/e\u0301t\u00e9.md", "Docs/\u00e9t\u00e9.md", True),
            ("{top}/readme.MD", "README.md", True),
            ("DOCS/../readme.md", "README.md", True),
            ("file://{top}/DOCS", "docs/x", True),
            ("docs\\New.md", "DOCS/new.md", True),
            ("{README,new}.md", "readme.md", True),
            ("Docs/*.md", "DOCS/new.md", True),
            ("Docs/*.md", "DOCS/new.txt", False),
            ("new.md", "NEW.md", True),
            ("new.md", "newer.md", False),
            ("README.md", "README.txt", False),
            ("new/folder", "NEW/Folder/file", True),
        ],
    )
    def test_names(self, files: Files, a: str, b: str, expected: bool) -> None:
        mine, theirs = (files.names([text.replace("{top}", files.top)]) for text in (a, b))
        assert any(overlap(one, other) for one in mine for other in theirs) is expected

    def test_what_is_there_is_spelled_as_it_is_there(self, files: Files) -> None:
        there = {one.name.casefold(): one.name for one in Path(files.top).iterdir()}
        assert files.name("readme.MD") == there["readme.md"]
        assert files.name("dOCS") == f"{there['docs']}/**"

    def test_a_new_file_keeps_its_claim_when_it_is_there(self, files: Files) -> None:
        before = files.name("new.md")
        Path(files.top, "New.md").touch()
        assert overlap(before, files.name("NEW.MD"))


def test_a_file_system_that_folds(folding: Path) -> None:
    """Also where its top is: what the folder around it says of its name is of another one."""
    assert folds_case(str(folding))
    top = Path(os.environ.get("FABRIC_TEST_FOLDING") or folding)
    (folding / "Link").symlink_to("nowhere")
    assert folds_case(str(top))
    assert (folding / "lINK").is_symlink()


@examples(100)
@given(st.lists(st.sampled_from(["a", "A", "B", "b", "sub", "SUB", "..", "new"]), min_size=1))
def test_one_file_that_folds_is_one_resource(spelled: list[str]) -> None:
    top = os.environ.get("FABRIC_TEST_FOLDING")
    if top is None:
        pytest.skip("no file system here folds case (FABRIC_TEST_FOLDING, CONTRIBUTING.md)")
    with TemporaryDirectory(dir=top) as folder:
        root = Path(folder, "top")
        (root / "sub" / "sub").mkdir(parents=True)
        for name in ("a", "sub/A", "sub/sub/b"):
            (root / name).touch()
        files = Files(root)
        path = "/".join(spelled)
        for other in ("a", "sub/a", "sub/sub/b", "sub/new"):
            one, two = root / path, root / other
            if one.is_file() and two.is_file():
                is_same = one.samefile(two)
                assert overlap(files.name(path), files.name(other)) is is_same, (path, other)


def test_a_file_system_that_does_not_fold(tmp_path: Path) -> None:
    (tmp_path / "Folder").mkdir()
    expected = (tmp_path / "fOLDER").exists()
    assert folds_case(str(tmp_path / "Folder")) is expected


def test_the_payload_of_a_signal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here / "src")
    assert files_here().top == os.path.realpath(here)
    payload = {"writes": ["link.py", f"{here}/a.py"], "reads": ["folder"], "task": "./x"}
    assert named("INTENT", payload) == {
        "writes": ["src/a.py", "a.py"], "reads": ["src/**"], "task": "./x",
    }  # fmt: skip
    assert named("BLOCKED", {"on": "link.py"}) == {"on": "link.py"}
    tasks = [{"id": "T", "writes": ["link.py"]}, 7]
    assert named("TASKS_ADDED", {"tasks": tasks}) == {
        "tasks": [{"id": "T", "writes": ["src/a.py"]}, 7]
    }
    for odd in ({"writes": "link.py"}, {"writes": [7]}, {"writes": ["{1..9999}"]}, {}):
        assert named("INTENT", odd) == odd
    assert module.RESOURCE_FIELDS["RELEASE"] == ("resources",)


def test_findings_name_their_place_from_the_top_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    (root / "src").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "src" / "a[1].py").touch()
    monkeypatch.chdir(root)
    paths = [
        f"{root}/src/a[1].py",
        f"file://{root}/src/b.py",
        "src/c.py",
        "/etc/hosts",
        "\0",
        "/\0",
    ]
    findings: list[Any] = [*({"path": one} for one in paths), {"key": "k"}, 3, {"path": 4}]
    for field in ("partial", "result"):
        placed = module.placed({field: {"findings": findings, "n": 1}})[field]["findings"]
        assert [one["path"] for one in placed[:6]] == [
            "src/a[1].py", "src/b.py", "src/c.py", "/etc/hosts", "\0", "/\0",
        ]  # fmt: skip
        assert placed[6:] == findings[6:]
    for payload in ({}, {"partial": 3}, {"partial": {"findings": 4}}, {"result": None}):
        assert module.placed(payload) == payload
