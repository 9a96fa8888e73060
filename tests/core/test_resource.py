"""One spelling for each resource, and which resources can name the same thing."""

from collections.abc import Callable

import pytest

from fabric.core.resource import Index, Meter, Pattern, is_glob, matches, overlap
from fabric.core.resource_name import ManyNamesError, literal, names_of, normalise

SPELLINGS = [
    ("a.py", "a.py"),
    ("./a.py", "a.py"),
    ("src/../a.py", "a.py"),
    ("a//b", "a/b"),
    ("a/./b/.././c", "a/c"),
    (".github/ci.yml", ".github/ci.yml"),
    ("...", "..."),
    ("src/", "src/**"),
    ("src/.", "src/**"),
    ("src/lib/..", "src/**"),
    (".", "**"),
    ("./", "**"),
    ("a/..", "**"),
    ("../x", "../x"),
    ("a/../../x", "../x"),
    ("..", "../**"),
    ("/etc//hosts", "/etc/hosts"),
    ("//etc", "/etc"),
    ("/", "/**"),
    ("/../x", "/x"),
    ("", ""),
    ("src\\a.py", "src/a.py"),
    (".\\a\\b\\..\\c", "a/c"),
    ("src\\", "src/**"),
    ("a[\\]b", "a[\\]b"),  # the character itself, as in any glob
    ("file:///repo/a.py", "/repo/a.py"),
    ("file:/repo/a.py", "/repo/a.py"),
    ("FILE:/repo/a%20b.py", "/repo/a b.py"),
    ("db:/main", "db:/main"),
    ("FILE://localhost/repo/./a.py", "/repo/a.py"),
    ("file:///repo/a%20b.py", "/repo/a b.py"),
    ("file:///repo/caf%C3%A9%2A", "/repo/caf\u00e9[*]"),
    ("file://elsewhere/a.py", "file://elsewhere/a.py"),
    ("port-8080", "port-8080"),
    ("db:main", "db:main"),
    ("s3://bucket//a/../b/", "s3://bucket//a/../b/"),
    ("s3:/bucket//a", "s3:/bucket/a"),
    ("a/s3://b", "a/s3:/b"),
    ("cafe\u0301.txt", "caf\u00e9.txt"),
    ("./*.py", "*.py"),
    ("src/**/**/a", "src/**/a"),
    ("src/**/./**/", "src/**"),
    ("**/**/**", "**"),
    # `*` is one part, and `..` takes it back.
    ("a/*/../b", "a/b"),
    ("a/[xy]/../b", "a/b"),
    # `**` may be no part at all: then `..` takes back the part before.
    ("a/**/../b", "**/b"),
    ("a/b/**/../c", "a/**/c"),
    ("**/../b", "**/b"),
    ("../**/../b", "../**/b"),
    ("/a/**/../../b", "/**/b"),
    ("**/a/**/../b", "**/b"),
]


@pytest.mark.parametrize(("text", "spelling"), SPELLINGS)
def test_a_thing_has_one_spelling(text: str, spelling: str) -> None:
    assert normalise(text) == spelling


LISTS = [
    ("src/a.py", ["src/a.py"]),
    ("src/a.py,src/b.py", ["src/a.py", "src/b.py"]),
    (" src/a.py , ./src/b.py,", ["src/a.py", "src/b.py"]),
    ("src/{a,b}.py", ["src/a.py", "src/b.py"]),
    ("{src,lib}/{a,b}.py", ["src/a.py", "src/b.py", "lib/a.py", "lib/b.py"]),
    ("src/{a,{b,c}d}.py", ["src/a.py", "src/bd.py", "src/cd.py"]),
    ("src/{a,b}.py,lib\\c.py", ["src/a.py", "src/b.py", "lib/c.py"]),
    ("src/a{,_test}.py", ["src/a.py", "src/a_test.py"]),
    ("part{1..3}", ["part1", "part2", "part3"]),
    ("part{c..a}", ["partc", "partb", "parta"]),
    ("a,a,./a", ["a"]),
    ("{src/,lib/}", ["src/**", "lib/**"]),
    # Braces without a choice are characters.
    ("app/{id}/x", ["app/{id}/x"]),
    ("app/{}/x", ["app/{}/x"]),
    ("{1..b}", ["{1..b}"]),
    ("a{b", ["a{b"]),
    ("a}b", ["a}b"]),
    ("{{a,b}", ["{a", "{b"]),
    ("a[,]b[{]c[}]d", ["a[,]b[{]c[}]d"]),
    ("x{a[,]b,c}", ["xa[,]b", "xc"]),
    # A URL may have commas of its own.
    ("https://x.org/?a=1,2", ["https://x.org/?a=1,2"]),
    ("s3://b/x,s3://b/y", ["s3://b/x", "s3://b/y"]),
    ("a.py,s3://b/x", ["a.py", "s3://b/x"]),
    ("s3://b/{x,y}", ["s3://b/x", "s3://b/y"]),
    (",", [","]),
    ("{,}", []),
]


@pytest.mark.parametrize(("text", "names"), LISTS)
def test_a_text_may_name_several_things(text: str, names: list[str]) -> None:
    assert names_of([text]) == names
    assert names_of(names) == names


@pytest.mark.parametrize(
    "texts",
    [
        ["{a,b}" * 100],
        ["{a,a}" * 10],
        ["{1..100000}"],
        ["{1..900}", "x{1..900}"],
        [f"{number}{{a,b}}" for number in range(600)],
        ["{" * 200 + "a,b" + "}" * 200 + "{c,d}" * 10],
        ["{" * 200 + "a,b" + "}" * 200] * 100,  # few names, and too much to read
    ],
)
def test_a_text_that_names_very_much_is_refused(texts: list[str]) -> None:
    with pytest.raises(ManyNamesError):
        names_of(texts)


@pytest.mark.parametrize("name", ["a,b", "a*b?", "{a,b}", "a\\b", "[id", "[a]", "x[y]z"])
def test_a_name_is_taken_literally(name: str) -> None:
    (resource,) = names_of([literal(name)])
    assert resource == literal(name)
    assert matches(resource, name, Meter())
    assert not matches(resource, name + "x", Meter())


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("src/*.py", True),
        ("src/a?.py", True),
        ("src/[ab].py", True),
        ("src/[!a].py", True),
        ("src/[]].py", True),
        ("**", True),
        ("src/a.py", False),
        ("notes[1", False),
        ("a[b/c]d", False),  # no class goes over a `/`
        ("[]", False),
        ("[!]", False),
        ("[user-id]", False),  # r-i goes backwards
        ("[!\0-\U0010ffff]", False),  # nothing is left
        ("s3://bucket/*", True),
        ("s3://bucket/x", False),
        ("", False),
    ],
)
def test_a_glob_is_told_from_a_path(resource: str, expected: bool) -> None:
    assert is_glob(resource) is expected


OVERLAPS = [
    # path and path
    ("a.py", "a.py", True),
    ("a.py", "b.py", False),
    ("src", "src/a.py", True),
    ("src", "src/lib/a.py", True),
    ("src", "srcs/a.py", False),
    ("/src", "/src/a.py", True),
    ("/src", "src/a.py", False),
    ("/a.py", "a.py", False),
    ("../a.py", "a.py", False),
    # path and glob
    ("src/*.py", "src/a.py", True),
    ("src/*.py", "src/.hidden.py", True),
    ("src/*.py", "src/b/a.py", False),
    ("src/*.py", "lib/a.py", False),
    ("src/?.py", "src/a.py", True),
    ("src/?.py", "src/ab.py", False),
    ("[a-c]x", "bx", True),
    ("[a-c]x", "dx", False),
    ("[!a-c]x", "dx", True),
    ("[^a-c]x", "bx", False),
    ("[]x]", "]", True),
    ("[a-]", "-", True),
    ("a?b", "a/b", False),
    ("a[!x]b", "a/b", False),
    ("src/**", "src/a.py", True),
    ("src/**", "src/b/c.py", True),
    ("src/**", "src", True),
    ("src/**", "srcs/a.py", False),
    ("src/**/a.py", "src/a.py", True),
    ("src/**/a.py", "src/x/y/a.py", True),
    ("src/**/a.py", "src/x/y/b.py", False),
    ("**", "port-8080", True),
    ("**", "/etc/hosts", True),
    ("**/x", "../x", True),
    ("*/x", "/x", False),  # the root is no `*`
    ("/*", "/x", True),
    ("a**b", "axyb", True),
    ("a**b", "ax/yb", False),
    ("notes[1", "notes[1", True),
    ("notes[*", "notes[1", True),
    # a path is all below it; a glob is what it matches
    ("src", "src/*.py", True),
    ("src/a.py", "src/*/b.py", False),
    ("src", "**/a.py", False),
    ("src", "*/a.py", False),
    ("src/*", "src/lib/a.py", False),
    # names in brackets, as web frameworks have them
    ("app/[id]/page.tsx", "app/[id]/page.tsx", True),
    ("app/[id]/page.tsx", "app/[userId]/page.tsx", False),
    ("app/[id]", "app/[id]/page.tsx", True),
    ("app/[id]", "app/[id]/*.tsx", True),
    ("app/[id]", "app/[userId]/page.tsx", False),
    ("app", "app/[id]/page.tsx", True),
    ("app/[id]/**", "app/[id]/page.tsx", True),
    ("app/[id]/**", "app/[userId]/page.tsx", False),
    ("app/**", "app/[userId]/page.tsx", True),
    ("app/*/page.tsx", "app/[id]/page.tsx", True),
    ("/app/[id]", "/app/[id]/page.tsx", True),
    ("[...slug].tsx", "[...rest].tsx", False),
    ("[[lang]]/a", "[[locale]]/a", False),
    ("[post-slug]/a", "[item-type]/a", False),
    ("[item-slug]/a", "[item-type]/a", False),
    ("users-[id]", "users-[group]", False),
    ("src/[ab].py", "src/a.py", True),  # it may be meant as a class
    ("app/i/page.tsx", "app/[id]/page.tsx", True),
    ("app/i", "app/[id]/page.tsx", True),
    ("app/[a-i]/x", "app/[id]/x", True),
    # glob and glob
    ("*.py", "test_*", True),
    ("*.py", "*.rs", False),
    ("a*", "*b", True),
    ("[a-b]", "[b-c]", True),
    ("[a-b]", "[c-d]", False),
    ("[a-b]", "[bc]", True),
    ("[!a]", "[a]", False),
    ("[.-0]", "[!.0]", False),  # only `/` is left
    ("src/**", "**/a.py", True),
    ("src/**", "lib/**", False),
    ("src/**/a.py", "src/**/b.py", False),
    ("*/a", "b/*", True),
    ("**/a/**/b", "a/*", True),
    # URLs
    ("s3://bucket/x", "s3://bucket/x", True),
    ("s3://bucket/x", "s3://bucket/y", False),
    ("s3://bucket/*", "s3://bucket/x", True),
    ("s3://bucket/*", "s3://bucket/x/y", False),
    ("s3://bucket", "s3://bucket/x", True),
    ("s3://bucket/**", "s3://bucket/x/y", True),
    ("s3://**", "gs://bucket/x", False),
    ("**", "s3://bucket/x", False),
    ("s3:/**", "s3://bucket/x", False),
]


@pytest.mark.parametrize(("a", "b", "expected"), OVERLAPS)
def test_two_resources_can_name_the_same_thing_or_not(a: str, b: str, expected: bool) -> None:
    assert (normalise(a), normalise(b)) == (a, b), "the table has normalised resources only"
    assert overlap(a, b) is expected
    assert overlap(b, a) is expected
    for held, asked in ((a, b), (b, a)):
        index = Index()
        index.add(held)
        assert index.overlapping(asked) == [held] * expected


class Work:
    """Counts the looks at a filed glob, and the steps of walks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        for name in ("accepts", "step"):
            monkeypatch.setattr(Pattern, name, self._counted(getattr(Pattern, name)))

    def _counted(self, method: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object) -> object:
            self.done += 1
            return method(*args)

        return counted


def test_a_lookup_costs_what_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index()
    for number in range(500):
        index.add(f"src/d{number}/*.py")
        index.add(f"src/d{number}/a.py")
    near = ["src/d7/*.py", "src/d7/a.py"]
    for asked in ("src/d7/a.py", "src/d7/[ab].py"):
        work = Work(monkeypatch)
        assert index.overlapping(asked) == near
        assert work.done < 50
    for number in range(500):
        index.add(f"src/*/b{number}.py")
    work = Work(monkeypatch)
    assert index.overlapping("lib/a.py") == []
    assert work.done == 0


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("[id]" * 120, "[id]" * 119 + "x", False),
        ("*a" * 250 + "b", "a*" * 250 + "c", False),
        ("*a" * 250, "a*" * 250, True),
        ("*a" * 250 + "b", "a" * 510, False),
        ("**/a/" * 100 + "b", "a/**/" * 100 + "c", False),
        ("**/*a*/" * 70 + "b", "a/**/*b*/" * 55 + "c", False),
        ("*[!a]" * 100 + "x", "[!b]*" * 100 + "y", False),
        ("[" * 512, "[z-a" * 128, False),
    ],
)
def test_a_hostile_pattern_comes_to_an_end(a: str, b: str, expected: bool) -> None:
    """Backtracking over every end of a star would take longer than the age of the universe."""
    assert overlap(a, b) is expected
    assert overlap(b, a) is expected
