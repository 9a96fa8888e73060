"""Ruff, bandit and vulture as they are: what they find, what stops them, and what they may take."""

import asyncio
import time
from pathlib import Path

import pytest

from fabric.demo import analysers
from fabric.demo.analysers import (
    ANALYSERS,
    HIGH,
    MEDIUM,
    AnalyserError,
    Finding,
    excerpt,
    run_tool,
    unreadable,
)
from fabric.demo.tree import Tree, take_snapshot
from tests.demo.plant import ABORTS_RUFF, TOO_DEEP, plant

WRONG = (
    "import os\n"
    "import subprocess\n"
    "def pay(items=[]):\n"
    "    password = 'hunter2'\n"
    "    return eval(undefined)\n"
    "def lost(): pass\n"
)
PATHS = "def paths(a):\n" + "".join(f"    if a == {n}: return {n}\n" for n in range(12))


def run(name: str, tree: Tree) -> list[Finding]:
    """All that a reviewer's analyser finds in a tree, batch by batch."""

    async def collected() -> list[Finding]:
        batches = ANALYSERS[name].examine(tree, tree.files)
        return [one async for _, found in batches for one in found]

    return asyncio.run(collected())


def rules(found: list[Finding]) -> set[tuple[str, int, str]]:
    return {(one.path, one.line, one.rule) for one in found}


def test_ruff_finds_style_complexity_and_imports(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"a.py": WRONG, "pkg/b.py": PATHS})
    style = run("STYLE", tree)
    assert rules(style) >= {
        ("a.py", 3, "mutable-argument-default"),
        ("a.py", 5, "undefined-name"),
    }
    severities = {one.rule: one.severity for one in style}
    assert severities["undefined-name"] == HIGH
    assert severities["mutable-argument-default"] == MEDIUM
    (complex_,) = [one for one in run("COMPLEXITY", tree) if one.rule == "complex-structure"]
    assert (complex_.path, complex_.line, complex_.severity) == ("pkg/b.py", 1, "medium")
    assert complex_.evidence == "def paths(a):"
    assert rules(run("IMPORTS", tree)) == {
        ("a.py", 1, "unused-import"),
        ("a.py", 2, "unused-import"),
    }


def test_bandit_finds_what_is_unsafe_and_its_secrets_are_hidden(tmp_path: Path) -> None:
    found = run("SAFETY", plant(tmp_path, {"a.py": WRONG}))
    by_rule = {one.rule: one for one in found}
    assert by_rule["eval"].severity == MEDIUM
    assert by_rule["hardcoded_password_string"].evidence == "password = '***'"
    assert "hunter2" not in str(found)
    assert all(one.recommendation.startswith("See `https://") for one in found)


def test_vulture_finds_dead_code_and_leaves_imports_to_others(tmp_path: Path) -> None:
    found = run("DEAD_CODE", plant(tmp_path, {"a.py": WRONG, "b.py": "import a\na.pay()\n"}))
    assert ("a.py", 6, "unused-function") in rules(found)
    assert not any(one.rule == "unused-import" or one.message.endswith("'pay'") for one in found)
    assert {one.confidence for one in found} == {0.6, 1.0}


@pytest.mark.parametrize("name", ["STYLE", "SAFETY"])
def test_a_file_that_an_analyser_fails_on_is_a_finding_and_spoils_no_other(
    tmp_path: Path, name: str
) -> None:
    files = {f"{n}.py": WRONG for n in "abcd"} | {"bad.py": ABORTS_RUFF, "c.py": "def (:\n"}
    found = run(name, plant(tmp_path, files))
    (bad,) = [one for one in found if one.path == "bad.py"]
    assert (bad.line, bad.rule, bad.severity) == (0, "not-reviewed", MEDIUM)
    assert {one.path for one in found} == {"a.py", "b.py", "bad.py", "d.py"}


def test_two_analysers_that_fail_on_a_file_do_not_contradict_each_other(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"bad.py": ABORTS_RUFF})
    keys = [one.key for name in ("STYLE", "COMPLEXITY", "SAFETY") for one in run(name, tree)]
    assert len(keys) == len(set(keys)) == 3


def test_an_analyser_that_needs_all_files_says_when_it_fails(tmp_path: Path) -> None:
    (found,) = run("DEAD_CODE", plant(tmp_path, {"a.py": WRONG, "deep.py": TOO_DEEP}))
    assert found.rule == "not-reviewed"
    assert "RecursionError" in found.message


def test_names_that_are_odd_or_look_like_options_are_reviewed(tmp_path: Path) -> None:
    names = ["--fix.py", "a\nb.py", "c: d.py", "\u202e.py", "ä ö.py"]
    tree = plant(tmp_path, dict.fromkeys(names, WRONG))
    for name in ("STYLE", "SAFETY", "DEAD_CODE"):
        assert {one.path for one in run(name, tree)} == set(tree.files), name


def test_a_module_of_the_tree_is_never_imported(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"json.py": "raise SystemExit('taken over')\n", "ast.py": WRONG})
    for name in ("STYLE", "SAFETY", "DEAD_CODE"):
        assert {one.rule for one in run(name, tree)} - {"not-reviewed"}, name


def test_settings_and_comments_of_the_tree_switch_nothing_on(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/ruff.toml").write_text("select = ['nothing']\n")
    (tmp_path / "code/.bandit").write_text("[bandit]\nskips = B307\n")
    tree = plant(tmp_path, {"a.py": WRONG})
    assert "undefined-name" in {one.rule for one in run("STYLE", tree)}
    assert "eval" in {one.rule for one in run("SAFETY", tree)}


def test_a_run_over_its_time_is_killed_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c',"
        ' \'import time; time.sleep(3); open("alive", "w")\'])\n'
        "time.sleep(60)\n"
    )
    program = "import runpy; runpy.run_path('sleeper.py')"
    module = tmp_path / "lib"
    module.mkdir()
    begun = time.monotonic()
    with pytest.raises(AnalyserError, match="no answer within 1 s"):
        asyncio.run(run_tool(["timeit", "-n1", "-r1", program], str(tmp_path), 1.0))
    assert time.monotonic() - begun < 10
    time.sleep(3)
    assert not (tmp_path / "alive").exists()


def test_output_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysers, "OUTPUT_BYTES_MAX", 1_000)
    program = "while True: print('x' * 1000)"
    with pytest.raises(AnalyserError, match="1,000 bytes"):
        asyncio.run(run_tool(["timeit", "-n1", "-r1", program], str(tmp_path), 30.0))


def test_an_excerpt_is_one_printable_line_of_bounded_length() -> None:
    assert excerpt("  a\tb\x1b[0m\n") == "a b\\x1b[0m"
    assert len(excerpt("x" * 10_000_000)) == 160


def test_strings_beside_secrets_are_hidden() -> None:
    assert excerpt("api_key = 'abc' + \"d\"") == "api_key = '***' + \"***\""
    assert excerpt("name = 'abc'") == "name = 'abc'"
    assert excerpt("found 'abc'", "password = 'abc'") == "found '***'"


def test_thousands_of_findings_in_one_large_file_take_seconds(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"a.py": "import os\n" + "x = undefined ;y = 1\n" * 10_000})
    begun = time.monotonic()
    found = run("STYLE", tree)
    assert time.monotonic() - begun < 60
    assert any(one.message.startswith("and 9,950 more of") for one in found)


SHOP = {
    "shop/__init__.py": "",
    "shop/basket.py": "import os\nfrom shop.price import total\nfrom . import tax\n",
    "shop/price.py": "from shop import basket\n",
    "shop/tax.py": "import typing\nif typing.TYPE_CHECKING:\n    from . import basket\n",
    "shop/self.py": "from . import self\n",
}


def test_cycles_of_imports_are_found_without_those_for_types_alone(tmp_path: Path) -> None:
    (found,) = run("CYCLES", plant(tmp_path, SHOP))
    assert (
        found.message == "files import each other: shop/basket.py → shop/price.py → shop/basket.py"
    )
    assert found.key == "shop/basket.py:0:import-cycle"


def test_each_of_several_cycles_is_found(tmp_path: Path) -> None:
    tree = plant(tmp_path, SHOP | {"a.py": "import b\nimport c\n", "b.py": "import a\n"})
    assert {one.path for one in run("CYCLES", tree)} == {"a.py", "shop/basket.py"}


def test_a_package_that_is_reviewed_by_itself_is_known_by_its_name(tmp_path: Path) -> None:
    plant(tmp_path, SHOP)
    (tmp_path / "own").mkdir()
    (found,) = run("CYCLES", take_snapshot(str(tmp_path / "code/shop"), tmp_path / "own"))
    assert found.message == "files import each other: basket.py → price.py → basket.py"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("def (:\n", "syntax-error"),
        ("\0", "syntax-error"),
        ("# coding: nothing\n", "syntax-error"),
        ("# coding: unicode_escape\nx = '\\\\ud800'\n", None),
        ("(" * 5_000, "syntax-error"),
        (ABORTS_RUFF, "too-deep"),
        (TOO_DEEP, "too-deep"),
    ],
)
def test_what_analysers_cannot_read_is_a_finding(
    tmp_path: Path, text: str, rule: str | None
) -> None:
    found = unreadable(plant(tmp_path, {"a.py": text}), "a.py")
    assert (found and found.rule) == rule
