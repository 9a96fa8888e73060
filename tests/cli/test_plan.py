"""`fabric plan`: the example of docs/plan.md, the other forms, and what is refused."""

import json
import re

import pytest

from tests.support.servers import ROOT
from tests.support.shell import Shell

PAGE = (ROOT / "docs" / "plan.md").read_text()
TASKS, RULES, OUTPUT, REFUSAL = re.findall(r"^```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def reader(lone: Shell) -> Shell:
    """A reader who has saved the page's two files."""
    (lone.home / "tasks.toml").write_text(TASKS)
    (lone.home / "fabric.toml").write_text(RULES)
    return lone


def test_the_example_of_the_page_is_what_is_printed(reader: Shell) -> None:
    done = reader.run("plan", "tasks.toml", "--agents", "2")
    assert (done.code, done.out, done.err) == (0, OUTPUT, "")


def test_a_program_gets_every_pair_with_level_and_reason(reader: Shell) -> None:
    done = reader.run("plan", "tasks.toml", "--json")
    made = json.loads(done.out)
    assert (done.code, made["agents"]) == (0, 3)
    assert made["pairs"][0] == {
        "first": "schema",
        "second": "index",
        "level": 1,
        "kind": "domain",
        "resources": ["alembic/**"],
        "is_conflict": True,
        "reason": "both are in alembic/**, an exclusive domain",
    }
    assert {pair["level"] for pair in made["pairs"]} == {1, 2, 3}


def test_other_rules_give_another_plan(reader: Shell) -> None:
    (reader.home / "none.toml").write_text("")
    made = json.loads(reader.run("plan", "tasks.toml", "--rules", "none.toml", "--json").out)
    assert {pair["level"] for pair in made["pairs"]} == {2}


def test_it_draws_a_diagram_of_a_todo_list_from_standard_input(lone: Shell) -> None:
    todos = [
        {"content": "Run pytest", "status": "pending", "activeForm": "Running pytest"},
        {"content": "Merge", "can_merge_after": ["pytest"]},
    ]
    done = lone.run("plan", "-", "--mermaid", given=json.dumps(todos))
    assert done.code == 0
    assert done.lines == [
        "flowchart LR",
        '  subgraph wave1 ["wave 1"]',
        '    t0["pytest"]',
        "  end",
        '  subgraph wave2 ["wave 2"]',
        '    t1["merge"]',
        "  end",
        "  t0 ==> t1",
    ]


def test_a_circle_is_refused_and_named(lone: Shell) -> None:
    tasks = [{"id": "b", "can_merge_after": ["a"]}, {"id": "a", "can_merge_after": ["b"]}]
    (lone.home / "tasks.json").write_text(json.dumps(tasks))
    done = lone.run("plan", "tasks.json")
    assert (done.code, done.out, done.err) == (2, "", REFUSAL)


def test_what_cannot_be_compared_is_refused(lone: Shell) -> None:
    (lone.home / "tasks.json").write_text(json.dumps([{"id": "a", "writes": ["[" * 500]}]))
    done = lone.run("plan", "tasks.json")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fabric: tasks.json: comparing its 1 resources with those in use")
