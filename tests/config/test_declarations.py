"""A rule or a setting is declared once: everything else that names it is made from that."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import click
import pytest

from fabric.cli import run
from fabric.cli.connect import on_target
from fabric.config import check, fault, rulebook, show
from fabric.config.fault import advice
from fabric.config.rulebook import Found
from fabric.config.settings import Secret, Settings, flag, load, sources, variable, worker_flags
from fabric.core.declaration import Declared, Field, Number, fields
from fabric.core.rule_table import Domain, Merge, Trigger
from fabric.core.rules import Rules
from tests.config import tables

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "fabric.example.toml"
PAGE = ROOT / "docs" / "rules.md"

RULES = fields(Rules)
SETTINGS = fields(Settings)
#: Fields of the tables that stand in lists.
INNER = [field for kind in (Domain, Trigger, Merge) for field in fields(kind)]


def named(field: Field) -> str:
    return field.key


@pytest.mark.parametrize("field", [*RULES, *INNER, *SETTINGS], ids=named)
def test_a_declaration_says_everything(field: Field) -> None:
    sentence = field.sentence
    assert sentence[0].isupper() or sentence.startswith("fabric")
    assert sentence.endswith(".")
    assert field.hint.unit
    assert field.hint.bounds


def test_every_field_is_declared() -> None:
    assert [field.name for field in RULES] == [*Rules.__struct_fields__]
    assert [field.name for field in SETTINGS] == [*Settings.__dataclass_fields__]
    assert len({field.key for field in (*RULES, *SETTINGS)}) == len(RULES) + len(SETTINGS)


def test_a_field_without_a_declaration_is_refused() -> None:
    class Bare(Rules, frozen=True):
        extra_max: int = 3

    with pytest.raises(TypeError, match=r"Bare\.extra_max is not declared"):
        fields(Bare)


class MoreRules(Rules, frozen=True):
    """The rules, and one more."""

    doors_max: Annotated[
        int, Number("doors", 1, 9), Declared("limits.doors_max"), "Doors in a session."
    ] = 3


@pytest.fixture
def another_rule(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if somebody had declared one more rule."""
    for module in (check, fault, rulebook, show):
        monkeypatch.setattr(module, "Rules", MoreRules)
    for cached in (check.rules_model, fault.advice):
        cached.cache_clear()
    yield
    for cached in (check.rules_model, fault.advice):
        cached.cache_clear()


@pytest.mark.usefixtures("another_rule")
def test_another_rule_needs_a_declaration_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "fabric.toml"
    path.write_text("[limits]\ndoors_max = 7\n")
    found = rulebook.find(path)
    assert getattr(found.rules, "doors_max", None) == 7
    assert f"doors_max = 7  # doors; {path}:2; default 3" in show.explained(found)
    assert "# Doors in a session. Unit: doors; 1 to 9.\ndoors_max = 3\n" in show.example()
    assert "| `limits.doors_max` | `3` | doors | 1 to 9 | Doors in a session. |" in (
        tables.rules_table(MoreRules)
    )
    _, faults = rulebook.check("[limits]\ndoors_max = 10\n")
    assert [str(one) for one in faults] == [
        "limits.doors_max: found 10; write a whole number from 1 to 9"
    ]
    _, faults = rulebook.check("[limits]\ndoor_max = 1\n")
    assert faults[0].fix == "doors_max (did you mean that?)"


@pytest.mark.parametrize("field", RULES, ids=named)
def test_a_rule_is_checked_shown_and_explained(field: Field) -> None:
    *outer, name = field.key.split(".")
    model = check.rules_model()
    for table in outer:
        model = model.model_fields[table].annotation  # type: ignore[assignment] # a nested model
    assert name in model.model_fields
    assert tuple(field.key.split(".")) in advice()
    (record,) = [one for one in show.rule_records(Found(Rules())) if one["name"] == field.key]
    assert record["value"] == record["default"]
    assert record["from"] == "default"
    said = said_of(tomllib.loads(uncommented(show.example())), field.key)
    assert said is not None, "the example file leaves it out"
    assert any(row.startswith(f"| `{field.key}` |") for row in tables.rules_table())


@pytest.mark.parametrize("field", SETTINGS, ids=named)
def test_a_setting_is_checked_shown_and_explained(
    field: Field, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FABRIC_CONFIG", "/dev/null")
    assert field.name in check.settings_model().model_fields
    assert f"#~ {field.key} = " in show.example()
    assert any(row.startswith(f"| `{field.key}` |") for row in tables.settings_table())
    value = tomllib.loads(uncommented(show.example()))[field.key]
    for source in ("flag", "variable", "file"):
        with monkeypatch.context() as patch:
            flags = {field.name: value} if source == "flag" else {}
            if source == "variable":
                patch.setenv(variable(field.name), str(value))
            if source == "file":
                path = tmp_path / "fabric.toml"
                path.write_text(f"\n{field.key} = {show.value_text(value)}\n")
                patch.setenv("FABRIC_CONFIG", str(path))
            files = [tmp_path / "fabric.toml"] if source == "file" else []
            found = load(**flags)
            given = getattr(found, field.name)
            assert (given.value if isinstance(given, Secret) else given) == value
            records = show.setting_records(found, sources(flags, files))
        (record,) = [one for one in records if one["name"] == field.key]
        places = {"flag": f"flag {flag(field.name)}", "variable": variable(field.name)}
        assert record["from"] == places.get(source, f"{tmp_path / 'fabric.toml'}:2")
        assert record["value"] == ("(not shown)" if field.name == "redis_url" else value)


def test_commands_have_a_flag_for_each_setting_that_is_one() -> None:
    @click.command()
    @on_target("session", "agent", "stream")
    def command() -> None:
        """Do nothing."""

    shared = {option for one in command.params for option in one.opts}
    worker = {option for one in run.orchestrator.params for option in one.opts}
    for field in SETTINGS:
        # Agents' own: they come from the environment.
        if field.hint.unit == "text" and field.name not in ("workspace", "instance"):
            assert flag(field.name) in shared
    assert {flag(field.name) for field in worker_flags()} <= worker
    (lease,) = [one for one in run.orchestrator.params if one.name == "lease_ms"]
    assert isinstance(lease, click.Option)
    assert (lease.envvar, lease.metavar) == ("FABRIC_LEASE_MS", "MS")
    assert "Default: 5000." in (lease.help or "")


def test_the_example_file_is_made_from_the_declarations(recording: bool) -> None:
    if recording:
        EXAMPLE.write_text(show.example())
    assert EXAMPLE.read_text() == show.example(), "`pytest tests/config --record` writes it again"


@pytest.mark.parametrize("name", ["settings", "rules"])
def test_the_tables_of_the_page_are_made_from_the_declarations(name: str, recording: bool) -> None:
    table = "\n".join(getattr(tables, f"{name}_table")())
    head, rest = PAGE.read_text().split(f"<!-- {name}: ", 1)
    mark, rest = rest.split("\n", 1)
    _, tail = rest.split("<!-- end -->", 1)
    page = f"{head}<!-- {name}: {mark}\n\n{table}\n\n<!-- end -->{tail}"
    if recording:
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "`pytest tests/config --record` writes it again"


def test_the_source_of_a_rule_is_its_line(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text("[storms]\n\nhops_max = 5\n[[domains]]\npattern = 'a'\n")
    found = rulebook.find(path)
    sources_of = {one["name"]: one["from"] for one in show.rule_records(found)}
    assert sources_of["storms.hops_max"] == f"{path}:3"
    assert sources_of["domains"] == f"{path}:4"
    assert sources_of["locks.ageing_ms"] == "default"
    assert f"hops_max = 5  # hops; {path}:3; default 32" in show.explained(found)
    assert "ageing_ms = 10000  # ms; default" in show.explained(found)


def uncommented(text: str) -> str:
    return "\n".join(line.removeprefix("#~ ") for line in text.splitlines() if line != "#~")


def said_of(document: object, key: str) -> object:
    """Return what a document says under a dotted key; None where it says nothing."""
    for part in key.split("."):
        if not isinstance(document, dict) or part not in document:
            return None
        document = document[part]
    return document
