"""Folds without a server: keeps a hash, an index and a list of revisions as the store does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jsonpatch
import msgspec
from msgspec import Raw

from fabric.core.contradiction import digest
from fabric.core.policy import RestartPolicy
from fabric.core.rule_table import Merge, Same
from fabric.core.rules import Rules
from fabric.core.synthesis.canonical import canonical_raw
from fabric.core.synthesis.fold import fold, needs, sweep, touched
from fabric.core.synthesis.merge import CURRENT, MergeRules, Reducer, Strategies
from fabric.core.synthesis.publish import COMPLETE, REVISION, RULES, Publisher, Revision
from fabric.core.synthesis.state import (
    AGENTS,
    RELATIONS,
    SAID,
    SECTIONS,
    Part,
    State,
    Sweep,
    SynthesisState,
    encode,
)
from fabric.store import synthesis as stored
from fabric.store.keys import Namespace
from fabric.store.port import Batch
from fabric.wire.document import patch
from fabric.wire.result import decode

#: A part without statements and without edges to it.
EMPTY = encode(Part(State.WITHDRAWN))

KEYS = Namespace().partition(0).session("demo")


def entry(
    agent: str,
    log: int,
    partial: Any = None,
    *,
    kind: str = "PARTIAL_RESULT",
    incarnation: int = 1,
    percent: float | None = None,
    payload: Any = None,
    silent: bool = False,
    since: int = 0,
) -> list[bytes]:
    """Return an entry of the results stream, as the orchestrator writes it."""
    body = payload if payload is not None else {} if partial is None else {"partial": partial}
    fields: list[Any] = [
        "session", "demo", "type", kind, "emitter", agent, "stream", "", "incarnation", incarnation,
        "cause", f"{log}-0", "ms", 1_000 * log, "payload", msgspec.json.encode(body),
        "percent", "" if percent is None else percent,
    ]  # fmt: skip
    if silent:
        fields += ["silent", "1"]
    if since:
        fields += ["since", since]
    return [item if isinstance(item, bytes) else str(item).encode() for item in fields]


def mark(value: Any) -> str:
    """Return the digest that names a value in a decision."""
    return digest(canonical_raw(Raw(msgspec.json.encode(value))))


class Folding:
    """A synthesis that keeps only the stored form after each batch."""

    def __init__(
        self,
        policy: RestartPolicy = RestartPolicy.REPLACE,
        merges: Sequence[Merge] = (),
        reducers: Mapping[str, Reducer] | None = None,
        sweep_parts: int = 3,
        version: int = CURRENT,
        contradict_on: Sequence[str] = (),
        same: Sequence[Same] = (),
    ) -> None:
        on = tuple(contradict_on)
        self.rules = MergeRules(version, policy, tuple(merges), on, tuple(same))
        self.reducers = reducers or {}
        self._follow(self.rules)
        self.sweep_parts = sweep_parts
        self.hash: dict[str, bytes] = {}
        self.said: dict[str, set[str]] = {}
        self.revisions: list[bytes] = []
        self.causes: list[list[int]] = []
        self.signals: list[tuple[str, Any]] = []
        self.sweeping: list[str] = []
        self.log = 0
        #: Fields read and written so far, and their bytes, including patches.
        self.fields_read = self.fields_written = self.bytes_read = self.bytes_written = 0

    def _follow(self, rules: MergeRules) -> None:
        self.policy = rules.restarts
        self.strategies = Strategies.by(rules)
        self.publisher = Publisher(rules.restarts, self.strategies, self.reducers)
        self._followed = rules

    def say(self, agent: str, partial: Any = None, **options: Any) -> int:
        """Fold one result in a batch of its own; return its log number."""
        self.log = options.pop("log", self.log + 1)
        self.take([entry(agent, self.log, partial, **options)])
        return self.log

    def find(self, agent: str, key: str, value: Any, **options: Any) -> int:
        """Fold one finding."""
        at = {"log": options.pop("log")} if "log" in options else {}
        return self.say(agent, {"findings": [{"key": key, "value": value, **options}]}, **at)

    def withdraw(self, agent: str, key: str) -> int:
        """Have an agent withdraw a finding."""
        return self.say(agent, {"findings": [{"key": key, "withdrawn": True}]})

    def decide(self, part: str, chosen: Any, *others: Any) -> int:
        """Have a person decide for one value, having seen the others."""
        payload = {
            "part": part,
            "decision": "A",
            "by": "alice",
            "chosen": mark(chosen),
            "rejected": [mark(value) for value in others],
            "value": chosen,
            "others": list(others),
        }
        return self.say("alice", kind="DECIDED", payload=payload)

    def part(self, name: str) -> Any:
        """Return a part as the document shows it."""
        section, _, place = name.partition(":")
        return self.document()[section][place]

    def says(self, name: str) -> dict[str, Any]:
        """Return each agent's present value of a part."""
        part = self.part(name)
        found = {}
        for agent, statements in part["said"].items():
            for one in statements:
                if one.get("standing", "holds") in SAID:
                    found[agent] = one.get("value", part.get("value"))
                    break
        return found

    def take(self, entries: Iterable[list[bytes]]) -> None:
        """Fold one batch, and run the sweeps that it starts."""
        synthesis = self._restored()
        results = [decode(fields, self.strategies.of) for fields in entries]
        while wanted := set().union(*(needs(synthesis, result) for result in results)):
            self._load(synthesis, wanted)
        for result in results:
            fold(synthesis, result, self.policy)
        self._keep(synthesis, self.publisher.publish(synthesis))
        while self.sweeping:
            self._sweep(self.sweeping.pop(0))

    def _sweep(self, agent: str) -> None:
        synthesis = self._restored()
        field = f"sweep:{agent}"
        self._load(synthesis, {field, f"{AGENTS}:{agent}"})
        under_way = synthesis.records[field]
        if not isinstance(under_way, Sweep):
            return
        names = sorted(
            (name for name in self.said.get(agent, ()) if name.startswith(under_way.within[0])),
            key=str.encode,
        )
        names = [name for name in names if name.encode() > under_way.after.encode()]
        names = names[: self.sweep_parts]
        self._load(synthesis, names)
        while wanted := touched(synthesis, agent, names):
            self._load(synthesis, wanted)
        sweep(synthesis, agent, names, is_over=len(names) < self.sweep_parts)
        self._keep(synthesis, self.publisher.publish(synthesis))

    def _restored(self) -> SynthesisState:
        head = [self.hash.get(field) for field in stored.HEAD]
        synthesis = stored.restore(KEYS, head, msgspec.json.encode(self.rules))
        in_force = Rules(
            restart_policy=self.rules.restarts,
            merges=self.rules.merges,
            contradict_on=self.rules.contradict_on,
            same=self.rules.same,
        )
        rules = stored.merge_rules(synthesis.rules, in_force)
        if rules != self._followed:
            self._follow(rules)
        return synthesis

    def _load(self, synthesis: SynthesisState, fields: Iterable[str]) -> None:
        for field in fields:
            value = self.hash.get(field)
            self.fields_read += 1
            self.bytes_read += len(value or b"")
            stored.load(synthesis, KEYS, [(field, value)])

    def _keep(self, synthesis: SynthesisState, revision: Revision | None) -> None:
        if revision is None:
            return
        stored.save(Batch(), KEYS, synthesis, revision, Rules().revisions_max)
        for field, value in revision.fields.items():
            self.fields_written += 1
            self.bytes_written += len(value or b"")
            if value is None:
                self.hash.pop(field, None)
            else:
                self.hash[field] = value
        if revision.fields:
            self.hash[COMPLETE] = revision.complete
            self.hash[REVISION] = b"%d" % synthesis.revision
            if synthesis.rules:
                self.hash[RULES] = synthesis.rules
        for agent, names in revision.index.items():
            self.said.setdefault(agent, set()).update(names)
        self.signals += [(kind.value, payload) for kind, payload in revision.signals]
        self.sweeping += [agent for agent in revision.sweeps if agent not in self.sweeping]
        if revision.number:
            assert revision.number == len(self.revisions) + 1
            same = stored.same_rules(synthesis.rules) if revision.number == 1 else b""
            made = patch("demo", revision.number, revision.complete, revision.operations, same=same)
            self.bytes_written += len(made)
            self.revisions.append(made)
            self.causes.append(revision.causes)

    def document(self) -> Any:
        """Return the document as the hash shows it."""
        if int(self.hash.get(REVISION, 0)) == 0:
            return {}
        found: dict[str, Any] = {
            "session": "demo",
            "revision": int(self.hash[REVISION]),
            "complete": msgspec.json.decode(self.hash[COMPLETE]),
            **{section: {} for section in SECTIONS},
        }
        if same := stored.same_rules(self.hash.get(RULES, b"")):
            found["same"] = msgspec.json.decode(same)
        if RELATIONS in self.hash:
            found[RELATIONS] = msgspec.json.decode(self.hash[RELATIONS])
        for field, value in self.hash.items():
            if field not in stored.HEAD and stored.is_published(field, value):
                section, _, name = field.partition(":")
                found[section][name] = msgspec.json.decode(value)
        return found

    def content(self) -> bytes:
        """Return the parts of the document that do not depend on the batches."""
        shown = {**self.document(), "revision": 0}
        # Whether an earlier revision was final, too, depends on the batches.
        complete = {**shown.get("complete", {})}
        complete.pop("first_final", None)
        if complete.get("state") == "amended":
            complete["state"] = "final"
        return msgspec.json.encode({**shown, "complete": complete}, order="sorted")

    def records(self) -> dict[str, bytes]:
        """Return the hash, byte for byte, without the fields that depend on the batches.

        Without empty parts too: an edge that came and went in two batches leaves one, in one batch
        none.
        """
        return {
            field: value
            for field, value in self.hash.items()
            if field not in stored.HEAD and value != EMPTY
        }

    def patched(self) -> Any:
        """Return the document that all patches make of an empty one."""
        document: Any = {}
        for made in self.revisions:
            document = jsonpatch.apply_patch(document, msgspec.json.decode(made), in_place=True)
        return document
