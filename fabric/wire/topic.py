"""What a finding is about, without a model: one name for all spellings of a rule.

A topic is the rule in whatever spelling, or the thing that it is a known name of (NAMES), as
people, agents and analysers call it. Without a rule, a known name in the title or message counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

#: Words of a title and message that are looked at: what it is about stands at the beginning.
WORDS_MAX: Final = 200

#: Names of one thing, as people, agents and analysers call it.
NAMES: Final = (
    "sql injection|sqli|cwe 89|s608|b608|hardcoded sql expression|"
    "tainted sql|sql concatenation|string built query|query built from|interpolated sql",
    "cross site scripting|xss|cwe 79|reflected xss|stored xss|unescaped html|"
    "unescaped output|unescaped template|html injection|dangerously set inner html|inner html",
    "command injection|shell injection|os command injection|cwe 78|s602|s605|b602|b605|"
    "subprocess shell true|shell true|os system call|os system|shell command built",
    "path traversal|directory traversal|cwe 22|zip slip|path injection|file name comes from|"
    "tainted path|dot dot slash",
    "server side request forgery|ssrf|cwe 918",
    "cross site request forgery|csrf|cwe 352",
    "xml external entity|xxe|cwe 611",
    "insecure deserialization|unsafe deserialization|cwe 502|pickle load|s301|b301",
    "hardcoded password|hardcoded secret|hardcoded credential|hardcoded credentials|cwe 798|"
    "s105|s106|b105|b106|secret in code|secret in repo|secret in source|password in code|"
    "password in the source|hard coded password|hard coded secret|hard coded credential|"
    "hard coded credentials|committed secret|leaked secret",
    "weak hash|insecure hash|weak cryptography|cwe 327|cwe 328|s324|b303|b324|md5",
    "insecure randomness|weak random|cwe 330|s311|b311|insecure random|"
    "predictable random|predictable token|non cryptographic random|random is not for",
    "eval used|eval|code injection|cwe 94|cwe 95|s307|b307|exec used",
    "unused import|f401|w0611|unused imports|imported but unused|"
    "import is unused|import not used|no unused imports",
    "unused variable|f841|w0612|unused local variable|unused local|"
    "assigned but never used|is never used|no unused vars",
    "undefined name|f821|e0602|undefined variable",
    "redefined while unused|f811|redefinition|w0404",
    "line too long|e501|c0301|long line",
    "bare except|e722|w0702|blind except|broad except|w0718|ble001|except pass|s110|b110|"
    "swallowed error|swallowed exception|swallows everything|catch all except|broad exception",
    "mutable default argument|b006|w0102|mutable default|dangerous default value|"
    "list as default|dict as default|default is mutable|mutable argument default",
    "missing docstring|undocumented|d100|d101|d102|d103|c0114|c0115|c0116",
    "assert used|s101|b101",
    "too complex|c901|high complexity|cyclomatic complexity|r0912|complex function",
    "race condition|data race|cwe 362|toctou|check then act",
    "resource leak|unclosed file|sim115|r1732|cwe 772|file not closed|leaked file handle|"
    "never closed|not closed|unclosed resource|handle leak|file leak",
    "null dereference|none dereference|null pointer|cwe 476|possible none|"
    "optional access|optional member access|union attr|may be none|might be none|could be none|"
    "null reference",
    "division by zero|divide by zero|cwe 369|zero division",
    "off by one|cwe 193|fencepost",
    "missing timeout|no timeout|s113|request without timeout|without timeout|"
    "without a timeout|timeout missing",
    "certificate validation disabled|verify false|cwe 295|s501|b501|tls verification disabled",
    "debug enabled|flask debug true|b201|s201|debug mode",
    "open redirect|cwe 601|unvalidated redirect",
    "n plus one|n 1 query|n plus 1 query|query in loop",
    "dead code|unreachable code|unreachable|w0101",
    "missing type annotation|untyped|ann001|ann201|no untyped def",
    "yaml load|unsafe yaml|s506|b506",
    "temp file race|insecure temp file|s306|b306|mktemp",
    "missing authorization|broken access control|cwe 862|cwe 285|missing auth|idor",
    "log injection|cwe 117|log forging",
    "regex denial of service|redos|cwe 1333|catastrophic backtracking|"
    "nested repeats|nested quantifiers|exponential backtracking",
    "infinite loop|endless loop|cwe 835",
    "memory leak|cwe 401",
    "integer overflow|cwe 190",
    "buffer overflow|cwe 120|cwe 787|out of bounds write",
    "deprecated api|deprecated|deprecated function|up035|w4901",
)

_TOKENS = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

#: Rules whose topic is remembered. Emptied when full.
_REMEMBERED_MAX: Final = 50_000

#: Words that say nothing of what a message is about.
_EMPTY: Final = frozenset(
    _TOKENS.findall(
        "a an the is are be was in on at of to for from by with without and or not no it its this "
        "that can may could should will would which here there has have use used uses using line "
        "code"
    )
)


def tokens(text: str) -> list[str]:
    """Return the words of a text in lower case; `tokenIs` and `token_is` are two words."""
    found = _TOKENS.finditer(_CAMEL.sub(" ", text))
    return [one[0].lower() for one in islice(found, WORDS_MAX)]


def telling_words(text: str) -> frozenset[str]:
    """Return the words of a text that say what it is about."""
    return frozenset(tokens(text)) - _EMPTY


class Topics:
    """The names that are known for one thing: those of NAMES, and `aliases`, which go before."""

    def __init__(self, aliases: Mapping[str, Iterable[str]] | None = None) -> None:
        self._topic_of: dict[str, str] = {}
        for names in NAMES:
            self._add(names.split("|"))
        for name, others in (aliases or {}).items():
            # An alias of something that is known is that thing: all its names stay one.
            self._add([" ".join(tokens(one)) for one in (name, *others)])
        self._joined = {name.replace(" ", ""): topic for name, topic in self._topic_of.items()}
        self._words_max = max(name.count(" ") + 1 for name in self._topic_of)
        self._remembered: dict[str, str] = {}

    def _add(self, names: list[str]) -> None:
        known = [self._topic_of[name] for name in names if name in self._topic_of]
        topic = known[0] if known else names[0]
        for name, other in self._topic_of.items():
            if other in known:
                self._topic_of[name] = topic
        self._topic_of |= dict.fromkeys(filter(None, names), topic)

    def of(self, rule: str, text: str) -> str:
        """Return the topic of a finding with this rule and text; "" if it is not known."""
        return self._of_rule(rule) if rule else self._phrase(tokens(text))

    def _of_rule(self, rule: str) -> str:
        found = self._remembered.get(rule)
        if found is None:
            words = tokens(rule)
            joined = "".join(words)
            # `python:S608` and `bandit.B608`: the name of the tool goes before.
            known = self._joined.get(joined) or (words and self._topic_of.get(words[-1]))
            found = self._remembered[rule] = known or self._phrase(words) or joined
            if len(self._remembered) > _REMEMBERED_MAX:
                self._remembered.clear()
        return found

    def _phrase(self, words: list[str]) -> str:
        """Return the topic whose longest name stands in a text."""
        for size in range(self._words_max, 0, -1):
            for start in range(len(words) - size + 1):
                topic = self._topic_of.get(" ".join(words[start : start + size]))
                if topic is not None:
                    return topic
        return ""
