"""Rules as the log keeps them."""

from fabric.core.rules import Domain, Rules
from fabric.wire import ruling

RULES = Rules(ageing_ms=5_000, domains=(Domain("src/**", "LEAD"),))


def test_rules_are_read_as_they_were_written() -> None:
    assert ruling.read(ruling.document(RULES)) == RULES
    assert ruling.read(ruling.document(Rules())) == Rules()


def test_the_defaults_have_no_digest_and_others_have_their_own() -> None:
    others = [RULES, Rules(ageing_ms=1), Rules(preemption=True)]
    digests = [ruling.digest(ruling.document(rules)) for rules in others]
    assert ruling.digest(ruling.document(Rules())) == ""
    assert len({*digests, ""}) == 4


def test_what_the_hook_is_given_is_not_written_down() -> None:
    with_hook = Rules(hook=("notify", "--token", "s3cret"), ageing_ms=5_000)
    assert b"s3cret" not in ruling.document(with_hook)
    assert ruling.document(Rules(hook=("notify",))) == ruling.document(Rules())
