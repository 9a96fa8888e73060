"""The fixes in the report: from the log who waited for whom, from the bytes what came of it."""

from pathlib import Path

from fabric.demo.changes import Change, Changes, changes, section
from fabric.demo.edits import EDITS
from fabric.demo.report import clock
from fabric.demo.turns import Turn, Turns
from fabric.demo.workshop import Workshop

BAD = "def f(items=[]):  \n\treturn eval(items)\n"


def followed() -> Turns:
    """What the log tells of a conflict that priority settles."""
    turns = Turns({"LOW": 2, "HIGH": 7})
    turns.take("INTENT", "ALL", {"writes": ["fixed/**"]}, 0)
    turns.take("PROCEED", "ALL", {"resources": ["fixed/**"], "token": 1}, 1)
    turns.take("INTENT", "LOW", {"writes": ["fixed/a.py"]}, 10)
    turns.take("PROCEED", "ALL", {"resources": ["fixed/**"], "token": 1, "waiting": 1}, 10)
    turns.take("WAIT", "LOW", {"resources": ["fixed/a.py"], "holder": "ALL"}, 10)
    turns.take("INTENT", "HIGH", {"writes": ["fixed/a.py"]}, 20)
    turns.take("WAIT", "HIGH", {"resources": ["fixed/a.py"], "holder": "ALL"}, 20)
    turns.take("PROCEED", "HIGH", {"resources": ["fixed/a.py"], "token": 2}, 30)
    turns.take("PROCEED", "HIGH", {"barrier": "fixes", "resources": []}, 35)
    turns.take("PROCEED", "LOW", {"resources": ["fixed/a.py"], "token": 3}, 40)
    return turns


def test_who_waited_for_whom() -> None:
    assert followed().of("fixed/a.py") == (
        Turn("HIGH", 7, 20, 30, 2, ("ALL",)),
        Turn("LOW", 2, 10, 40, 3, ("ALL", "HIGH")),
    )
    assert followed().of("b.py") == ()


def copy_of(folder: Path) -> Workshop:
    (folder / "tree").mkdir()
    (folder / "tree" / "a.py").write_text(BAD)
    return Workshop.make(str(folder / "tree"), folder / "copy")


def test_the_section_shows_the_turns_and_the_difference(tmp_path: Path) -> None:
    shop = copy_of(tmp_path)
    for edit in EDITS.values():
        shop.write("a.py", edit("a.py", shop.now("a.py")))
    found = changes(tmp_path / "copy", followed(), ["LOW: late | for it"])
    assert found.lost == ()
    lines = list(section(found, clock))
    assert lines[0] == "## What was changed"
    assert "Each file holds both edits: none was overwritten." in lines[2]
    assert "| `a.py` | HIGH | 7 | 0:00.020 | 0:00.030 | 2 | ALL |" in lines
    assert "| `a.py` | LOW | 2 | 0:00.010 | 0:00.040 | 3 | ALL, HIGH |" in lines
    assert "LOW: late \\| for it" in lines
    assert "+# fabric demo: formatted by FORMATTER" in lines


def test_an_overwritten_edit_is_said(tmp_path: Path) -> None:
    shop = copy_of(tmp_path)
    read_early = shop.now("a.py")
    shop.write("a.py", EDITS["ANNOTATOR"]("a.py", shop.now("a.py")))
    shop.write("a.py", EDITS["FORMATTER"]("a.py", read_early))
    found = changes(tmp_path / "copy", Turns({}))
    assert found.files == (Change("a.py", ("FORMATTER",), ()),)
    assert found.lost == ("a.py",)
    assert "**An edit is missing** in `a.py`." in list(section(found, clock))[2]


def test_a_long_difference_is_cut() -> None:
    many = Changes((Change("a.py", ("A", "B"), ()),), tuple(f"+{n}" for n in range(100)))
    lines = list(section(many, clock))
    assert lines[-2:] == ["… 60 more lines", "```"]


def test_no_copy_is_no_section(tmp_path: Path) -> None:
    assert list(section(changes(tmp_path / "none", Turns({})), clock)) == []
    said = list(section(changes(tmp_path / "none", Turns({}), ["A: no files"]), clock))
    assert said == ["## What was changed", "", "A: no files"]
