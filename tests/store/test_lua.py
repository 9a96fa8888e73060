"""Rules for every script: its keys are passed in, and its result words agree everywhere."""

import ast
import inspect
import itertools
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fabric.errors import ServerError
from fabric.store import scripts
from fabric.store.keys import Namespace
from fabric.store.port import Batch, Lease
from fabric.store.redis import RedisStore
from tests.store.backend import LONG_MS, RedisBackend, commit, hold
from tests.store.lua import REPLY, body, calls, header

VERBS = scripts.verbs()

#: Position of the key for commands where it is not the first argument; None if there is no key.
KEY_PLACES = {"'TIME'": None, "'XINFO'": 2, "'XGROUP'": 2}


def handled(*functions: str) -> set[str]:
    """The result words that methods of RedisStore and functions of scripts.py handle."""
    (store,) = ast.parse(inspect.getsource(RedisStore)).body
    assert isinstance(store, ast.ClassDef)
    return {
        constant.value.decode()
        for node in [*store.body, *ast.parse(inspect.getsource(scripts)).body]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in functions
        for constant in ast.walk(node)
        if isinstance(constant, ast.Constant)
        and isinstance(constant.value, bytes)
        and re.fullmatch(rb"[a-z]+", constant.value)
    }


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_has_its_method_and_its_test(verb: str) -> None:
    assert inspect.iscoroutinefunction(getattr(RedisStore, verb))
    assert Path(__file__).with_name(f"test_lua_{verb}.py").is_file()


@pytest.mark.parametrize("verb", VERBS)
def test_the_header_of_a_script_has_its_arguments_and_results(verb: str) -> None:
    text = header(verb)
    assert text.startswith(f"-- {verb}: ")
    for word in ("KEYS[1]", "ARGV[1]", "Returns"):
        assert word in text
    used = {int(number) for number in re.findall(r"\b(?:KEYS|ARGV)\[(\d+)\]", body(verb))}
    said = {int(number) for number in re.findall(r"\b(?:KEYS|ARGV)\[(\d+)", text)}
    assert used <= said


@pytest.mark.parametrize("verb", VERBS)
def test_the_result_words_in_the_header_are_those_returned(verb: str) -> None:
    assert set(REPLY.findall(header(verb))) == set(REPLY.findall(body(verb)))


def test_the_result_words_returned_are_those_handled() -> None:
    for verb in VERBS:
        refusals = ("refusal",) if verb in ("commit", "rebuild", "renew") else ()
        assert set(REPLY.findall(body(verb))) <= handled(verb, *refusals), verb
    words = {word for verb in VERBS for word in REPLY.findall(body(verb))}
    assert handled(*VERBS, "refusal") == words


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_is_passed_in(verb: str) -> None:
    """A script builds no key name: a cluster could not know which node has the key."""
    text = body(verb)
    assert ".." not in text
    # Nor a part of one: letters beside a colon or braces. `%.0f:%.0f` is a pair of numbers.
    words = [re.sub(r"%[^a-zA-Z]*[a-zA-Z]", "", word) for word in re.findall(r"'[^']*'", text)]
    assert not [word for word in words if set(word) & set(":{}") and re.search(r"[a-z]", word)]
    passed = set(re.findall(r"local (\w+) = KEYS\[[^\n]+\]\n", text))
    # An argument list whose first element is such a key.
    lists = {
        name for name, key in re.findall(r"(\w+)\[1\], \1\[2\] = (\w+),", text) if key in passed
    }
    for arguments in calls(verb):
        place = KEY_PLACES.get(arguments[0], 1)
        if place is None:
            continue
        key = arguments[place]
        is_key = re.fullmatch(r"KEYS\[[^\]]+(\[[^\]]+\][^\]]*)?\]", key) or key in passed
        is_list = key.removeprefix("unpack(").removesuffix(")") in lists
        assert is_key or is_list, arguments


async def test_a_script_touches_only_the_keys_it_is_given(real: RedisBackend) -> None:
    """The server itself checks it: the user may use the keys of one partition and no others."""
    names = Namespace().partition(0)
    keys = names.session("s")
    allowed = [names.lease("orchestrators"), names.signals, keys.log, keys.incarnations]
    allowed += [keys.agents, keys.retired, Namespace().replicas("orchestrators"), "scratch"]
    await real.call("ACL", "SETUSER", "one", "on", ">pw", "+@all", *(f"~{key}" for key in allowed))
    url = f"unix://one:pw@{real.server.socket}"
    try:
        # A first epoch is noted in `meta`, which is no key of the partition.
        await real.open().acquire(0, "orchestrators", "one", "first", LONG_MS)
        store = RedisStore(url)
        lease = await store.acquire(0, "orchestrators", "one", "n", LONG_MS)
        assert await store.enroll(0, "s", "A") == 1
        assert await store.beat("orchestrators", "r", LONG_MS) == ["r"]
        (entry_id,) = await store.emit(0, [[b"a", b"1"]], 10)
        batch = Batch()
        batch.append(keys.log, "1-0", ("a",), (1,))
        batch.write("HSET", keys.agents, ("A", "{}"))
        assert isinstance(lease, Lease)
        await commit(store, lease, batch, upto=entry_id)
        await store.renew(lease, LONG_MS)
        await store.attempt("scratch", LONG_MS)
        await store.release(lease)
        await store.close()
    finally:
        await real.call("ACL", "DELUSER", "one")


async def test_a_script_with_keys_of_two_slots_fails_every_test(real: RedisBackend) -> None:
    """One server would accept it, so `tests/conftest.py` checks every call of every script."""
    store = real.open()
    one, other = (Namespace().partition(number) for number in (0, 1))
    lease = await hold(store)
    batch = Batch()
    batch.append(one.session("s").log, "1-0", ("a",), (1,))
    await commit(store, lease, batch)
    batch.append(other.session("s").log, "1-0", ("a",), (1,))
    with pytest.raises(AssertionError, match="commit is given keys of 2 slots"):
        await commit(store, lease, batch)


async def test_a_server_that_lost_its_scripts_gets_them_again(real: RedisBackend) -> None:
    store = real.open()
    for _ in range(2):
        lease = await hold(store)
        await store.renew(lease, LONG_MS)
        (entry_id,) = await store.emit(0, [[b"a", b"1"]], 10)
        await commit(store, lease, upto=entry_id)
        await store.beat("orchestrators", "r", LONG_MS)
        await store.enroll(0, "s", "A")
        loaded = await real.call("SCRIPT", "EXISTS", *map(scripts.digest, VERBS))
        assert sum(loaded) >= 6
        await real.call("SCRIPT", "FLUSH")
    assert await store.enroll(0, "s", "A") == 3


@pytest.mark.parametrize("verb", ["acquire", "renew", "commit", "emit"])
async def test_an_unknown_result_word_is_an_error_of_its_own(
    real: RedisBackend, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens when only one side has changed its version."""
    store = real.open()
    lease = await hold(store)
    monkeypatch.setattr(scripts, "source", lambda _: "return {'renamed'}")
    monkeypatch.setattr(scripts, "digest", lambda _: "0" * 40)
    doings: dict[str, Callable[[], Awaitable[object]]] = {
        "acquire": lambda: store.acquire(0, "orchestrators", "one", "n", LONG_MS),
        "renew": lambda: store.renew(lease, LONG_MS),
        "commit": lambda: commit(store, lease),
        "emit": lambda: store.emit(0, [[b"a", b"1"]], 10),
    }
    with pytest.raises(ServerError, match=f"script {verb} gave a reply that"):
        await doings[verb]()


def test_no_two_scripts_have_the_same_text() -> None:
    for one, two in itertools.combinations(VERBS, 2):
        assert scripts.digest(one) != scripts.digest(two)
