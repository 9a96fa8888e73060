"""SAFETY: each rule finds what it is for, and lets its harmless neighbour pass."""

import pytest

from fabric.demo.finding import Severity
from fabric.demo.reviews.safety import Safety
from tests.demo.tree import check

BAD = {
    "bare-except": ["try: f()\nexcept: log()\n"],
    "swallowed-exception": [
        "try: f()\nexcept Exception: pass\n",
        "try: f()\nexcept (A, BaseException):\n    ...\n",
    ],
    "mutable-default": [
        "def f(a=[]): pass\n",
        "async def f(*, a={}): pass\n",
        "lambda a=set(): a\n",
        "from collections import defaultdict as d\ndef f(a=d(list)): pass\n",
    ],
    "eval-or-exec": ["eval(text)\n", "exec(text, {})\n", "exec('x = 1')\n"],
    "subprocess-shell": [
        "import subprocess\nsubprocess.run(command, shell=True)\n",
        "from subprocess import Popen as P\nP(command, shell=True)\n",
        "import subprocess as sp\nsp.check_output('ls', shell=True)\n",
    ],
    "assert-on-tuple": ["assert (a, 'message')\n"],
    "unsafe-yaml-load": [
        "import yaml\nyaml.load(text)\n",
        "import yaml\nyaml.load(text, Loader=yaml.UnsafeLoader)\n",
        "from yaml import load, Loader\nload(text, Loader)\n",
        "import yaml\nyaml.unsafe_load(text)\n",
    ],
    "pickle-load": ["import pickle\npickle.loads(data)\n", "from pickle import load\nload(file)\n"],
    "hard-coded-secret": [
        "PASSWORD = 'hunter2'\n",
        "self.db_password = 'correct-horse'\n",
        "connect(password='hunter2')\n",
        "config = {'api_key': 'a81f9c3e77'}\n",
        "def f(passwd='hunter2'): pass\n",
        "os.environ['AUTH_TOKEN'] = 'x7f3k2m9q1'\n",
    ],
    "comparison-with-none": ["if a == None: pass\n", "a = None != b\n"],
}

FINE = {
    "bare-except": [
        "try: f()\nexcept E: log()\n",
        "try: f()\nexcept:\n    undo()\n    raise\n",
    ],
    "swallowed-exception": [
        "try: f()\nexcept Exception: log()\n",
        "try: f()\nexcept KeyError: pass\n",
        "try: f()\nexcept Exception:\n    x = None\n",
    ],
    "mutable-default": ["def f(a=(), b=None, c=frozenset(), d=1): pass\n", "def f(a=list): pass\n"],
    "eval-or-exec": [
        "model.eval()\n",
        "def eval(x): pass\neval(text)\n",
        "from numexpr import evaluate as eval\neval(text)\n",
        "import ast\nast.literal_eval(text)\n",
    ],
    "subprocess-shell": [
        "import subprocess\nsubprocess.run(['ls'])\n",
        "import subprocess\nsubprocess.run(['ls'], shell=False)\n",
        "client.run(command, shell=True)\n",
    ],
    "assert-on-tuple": ["assert a, 'message'\n", "assert (a)\n"],
    "unsafe-yaml-load": [
        "import yaml\nyaml.safe_load(text)\n",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)\n",
        "yaml = YAML()\nloader.load(text)\n",
        "import json\njson.load(file)\n",
    ],
    "pickle-load": [
        "import pickle\ncopy = pickle.loads(pickle.dumps(value))\n",
        "import json\njson.loads(data)\n",
    ],
    "hard-coded-secret": [
        "PASSWORD = os.environ['PASSWORD']\n",
        "PASSWORD = ''\n",
        "PASSWORD = 'password'\n",
        "PASSWORD_FIELD = 'hunter2'\n",
        "password = 'Enter it: '\n",
        "password = '<your word>'\n",
        "password = '${DB_WORD}'\n",
        "api_key = 'API_KEY_ENV'\n",
        "access_token = 'bearer'\n",
        "token_type = 'a1b2c3d4e5'\n",
        "password = 'https://vault.example/x'\n",
        "key = 'a1b2c3d4e5'\n",
    ],
    "comparison-with-none": [
        "if a is None: pass\n",
        "session.query(A).filter(A.b == None)\n",
        "select(A).where(A.b != None)\n",
        "if a == 0: pass\n",
    ],
}


@pytest.mark.parametrize(("rule", "text"), [(r, t) for r, texts in BAD.items() for t in texts])
def test_what_is_unsafe_is_found(rule: str, text: str) -> None:
    assert [finding.rule for finding in check("safety", text)] == [rule]


@pytest.mark.parametrize(("rule", "text"), [(r, t) for r, texts in FINE.items() for t in texts])
def test_what_is_harmless_is_not(rule: str, text: str) -> None:
    assert rule not in [finding.rule for finding in check("safety", text)]


def test_every_rule_has_both_cases() -> None:
    assert {rule.name for rule in Safety.rules} == set(BAD) == set(FINE)


def test_a_secret_is_not_repeated_in_the_finding() -> None:
    for text in [*BAD["hard-coded-secret"], "PASSWORD = 'hunter2\\\n3'\n"]:
        for finding in check("safety", text):
            assert not any(word in str(finding) for word in ("hunter2", "horse", "9c3e", "k2m9"))
            assert "***" in finding.evidence


def test_a_secret_is_hidden_from_other_findings_too() -> None:
    text = "class A: x = 1  # TODO\nPASSWORD = 'hunter2'  # FIXME\n"
    text += "def f(password='hunter2', a=[]): pass\n"
    for name in ("style", "complexity", "safety", "dead_code"):
        assert "hunter2" not in str(check(name, text))


def test_what_runs_fixed_text_is_only_low() -> None:
    text = "exec('x = 1')\nexec(text)\n"
    assert [item.severity for item in check("safety", text)] == [Severity.LOW, Severity.HIGH]


def test_tests_may_do_more() -> None:
    text = "import pickle\npickle.loads(x)\nPASSWORD = 'hunter2'\neval(x)\n"
    findings = check("safety", text, "tests/test_a.py")
    assert [(item.rule, item.severity) for item in findings] == [("eval-or-exec", Severity.LOW)]
