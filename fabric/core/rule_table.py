"""The tables of the rule file that hold several values each, and the bounds of all rules.

`rules.py` declares all other rules, and says where these belong.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from fabric.core.declaration import TIME_MS_MAX, Declared, Items, Number, Text
from fabric.core.limits import LIST_ITEMS_MAX
from fabric.core.policy import Comparison, ContradictionPolicy

#: A point in time that may be left out.
Deadline = Annotated[int, Number("ms", 0, TIME_MS_MAX, "no deadline")]
#: A name, as it stands in lists and tables.
Name = Annotated[str, Text.NAME]
#: Globs of names.
Globs = Annotated[tuple[Name, ...], Items(0, LIST_ITEMS_MAX, unique=True)]

#: The most of one kind that a session may hold. Its state is read and written as a whole when it
#: moves: above this, several sessions do better.
SESSION_MAX = 1_000_000
#: More signals a second than one partition takes in: a higher limit would limit nothing.
SIGNALS_PER_SECOND_MAX = 1_000_000
#: A higher multiple of an agent's own rhythm says nothing about the agent.
FACTOR_MAX = 1_000
#: After this many deaths in a row there is no reason to wait for still more.
DEATHS_MAX = 1_000
#: After this many starts there is no reason to try still more.
ATTEMPTS_MAX = 1_000
#: Arguments of the escalation hook.
ARGUMENTS_MAX = 64
#: Refiners of a synthesis: each is a process that starts again and again, for each session.
REFINERS_MAX = 16

#: Fields by which findings may be one; besides, members of `data`: `data.NAME`.
SAME_FIELDS = frozenset({"path", "rule", "title", "url", "source", "severity", "key"})
#: Fields that findings share, and lines between them: more is another place.
SAME_FIELDS_MAX = 8
SAME_LINES_MAX = 1_000

#: Checkpoints per task type, in order.
TASK_TYPES: dict[str, tuple[str, ...]] = {
    "Code Review": ("files_read", "issues_found", "recommendations_drafted"),
    "Test Writing": ("coverage_analyzed", "tests_generated", "tests_validated"),
    "Exploration": ("files_searched", "patterns_found", "synthesis_complete"),
}

#: Priorities are within what STARTED may give.
PRIORITY_MAX = 1_000_000

Time = Annotated[int, Number("ms", 1, TIME_MS_MAX)]
Announced = Annotated[int, Number("ms", 0, TIME_MS_MAX, "none may be announced")]
Unread = Annotated[int, Number("ms", 0, TIME_MS_MAX, "nobody is asked")]
Priority = Annotated[int, Number("points", -PRIORITY_MAX, PRIORITY_MAX)]
#: A name of an agent, as it stands in lists and tables.
AgentName = Annotated[str, Text.AGENT]
#: The checkpoints of one type of task.
Checkpoints = Annotated[tuple[Name, ...], Items(1, LIST_ITEMS_MAX, unique=True)]
#: Agents that get copies of a type of signal.
Recipients = Annotated[tuple[AgentName, ...], Items(1, LIST_ITEMS_MAX, unique=True)]
#: How large something that is kept may become.
Bytes = Annotated[int, Number("bytes", 1_048_576)]


class Merge(Struct, frozen=True):
    """How values at a place of a synthesis's document are merged."""

    path: Annotated[
        str,
        Text.POINTER,
        Declared(
            write="a JSON Pointer, which begins with /, or a glob of several: "
            '"/metrics/*/latency"; in it ~0 is ~ and ~1 is /'
        ),
        "The places: a JSON Pointer, or a glob of several.",
    ]
    reducer: Annotated[
        str,
        Text.REDUCER,
        'How values become one: "by_source" (keep each agent\'s own), "agree" (two that differ are '
        'a contradiction), "last", "sum", "mean", "max", "min"; for lists "list" (in each agent\'s '
        'own order), "union" (item by item, for lists that many agents add to), "append" or "rows" '
        "(tables, with `key`); or a name that an installed package has in fabric.reducers. A rule "
        'with only `compare` or `policy` means "agree".',
    ] = ""
    key: Annotated[
        str,
        Text.NAME_OR_NONE,
        'For "rows": the member that tells the rows of a table apart.',
    ] = ""
    compare: Annotated[
        Comparison,
        Declared(
            write='one of "exact", "text", "loose", "number", "quantity", "date", "set", "prose"'
        ),
        'When two values are the same. "exact": the same JSON; "text": but for case and spaces; '
        '"loose": that, `8080` and `"8080"`, and lists in another order; "number", "quantity" '
        '(with units) and "date": within the tolerance; "set": lists in any order and number; '
        '"prose": loose, and texts of several words contradict nothing. "": loose, and prose for '
        "findings with a place.",
    ] = Comparison.DEFAULT
    tolerance: Annotated[
        float,
        Number("amount", 0),
        "How far two values may be apart: numbers by this much, dates by so many seconds, "
        "quantities by this share of the larger one.",
    ] = 0.0
    policy: Annotated[
        ContradictionPolicy,
        'What becomes of values that contradict each other: a person decides ("ask"), or there '
        'holds that of the surest agent ("surest"), of most agents ("majority"), or of the source '
        'with the latest `date`, without dates the last one said ("newest_source"). A tie is asked '
        "about.",
    ] = ContradictionPolicy.ASK


class Same(Struct, frozen=True):
    """Which findings of several agents are one thing."""

    by: Annotated[
        tuple[Annotated[str, Text.FIELD], ...],
        Items(1, SAME_FIELDS_MAX, unique=True),
        Declared(
            write="a list of fields of findings: path, rule, title, url, source, severity, key, or "
            'data.NAME, none twice: ["path", "rule"]'
        ),
        "What they share: fields of findings. A rule may be spelled in any way, or be another name "
        "of the same thing; without one, a name in the title or message counts.",
    ] = ("path", "rule")
    lines: Annotated[
        int,
        Number("lines", 0, SAME_LINES_MAX),
        "How far apart their lines may be, if they share the path.",
    ] = 3
    aliases: Annotated[
        dict[Name, Annotated[tuple[Name, ...], Items(1, LIST_ITEMS_MAX, unique=True)]],
        Declared(
            write='a rule = its other names: { "sql-injection" = ["SQLI", "our-17"] }, at least '
            "one and none twice"
        ),
        "Other names of rules, besides those that are known: CWE numbers and the rules of some "
        "analysers.",
    ] = {}

    @property
    def counts_lines(self) -> bool:
        """Whether lines count: they are lines of a path."""
        return "path" in self.by


class Domain(Struct, frozen=True):
    """Paths that belong together."""

    pattern: Annotated[
        str, Text.NAME, Declared(write='a glob of paths: "alembic/**"'), "A glob of the paths."
    ]
    coordinator: Annotated[
        str, Text.AGENT_OR_NONE, "The agent that is told of every conflict there."
    ] = ""
    exclusive: Annotated[
        bool, "Whether an agent that writes anywhere in the domain gets all of it."
    ] = False


class Trigger(Struct, frozen=True):
    """An integration point that emits INTEGRATION_REQUIRED by itself."""

    name: Annotated[
        str,
        Text.NAME,
        Declared(write=f"the barrier's name of {Text.FREE.value}, in double quotes"),
        "The barrier's name.",
    ]
    tags: Annotated[
        Globs,
        Declared(write='a list of globs, none twice: ["schema-*"]'),
        "Globs: an output that is resolved under a matching id, or a completed task with a "
        "matching one, pulls the trigger.",
    ] = ()
    paths: Annotated[
        Globs,
        Declared(write='a list of globs, none twice: ["alembic/versions/**"]'),
        "Globs: an output that is resolved at a matching location pulls the trigger.",
    ] = ()
    deadline_ms: Annotated[
        Deadline | None, "Time until the barrier's deadline, instead of barriers.deadline_ms."
    ] = None
    leader: Annotated[
        str,
        Text.AGENT_OR_NONE,
        "The agent that integrates. Without one, all resume as soon as all have arrived.",
    ] = ""


# The rules that are lists of these tables.

Triggers = Annotated[
    tuple[Trigger, ...],
    Items(0, LIST_ITEMS_MAX, distinct="name"),
    Declared(
        example=(
            Trigger(
                "migrations",
                ("schema-*", "migration-*"),
                ("alembic/versions/**",),
                120_000,
                "ARCHITECT",
            ),
            Trigger("api-contract", paths=("openapi/**",)),
            Trigger("release", tags=("release-*",)),
        )
    ),
    "Integration points that emit INTEGRATION_REQUIRED by themselves: one table for each.",
]

Merges = Annotated[
    tuple[Merge, ...],
    Items(0, LIST_ITEMS_MAX, distinct="path"),
    Declared("synthesis.merges", example=(Merge("/metrics/*/latency", "mean"),)),
    "How the values that several agents give at one place of the document become one. The "
    "first path that matches counts; where none does, numbers must agree, lists keep their "
    "order, and everything else is kept by source. One table for each.",
]

Sames = Annotated[
    tuple[Same, ...],
    Items(0, LIST_ITEMS_MAX, distinct="by"),
    Declared(
        "synthesis.same",
        example=(Same(("path", "rule"), 5, {"sql-injection": ("SQLI", "our-17")}),),
    ),
    "Which findings of several agents are one thing: those that any of these tables joins. "
    "Without a table: those about one path and rule, at most three lines apart.",
]
