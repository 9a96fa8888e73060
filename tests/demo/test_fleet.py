"""The fleet: its members, and an agent that dies without a word is named."""

from fabric.demo.fleet import FIXERS, FLEET, REVIEWERS, failures


def test_a_silent_death_is_a_failure_too() -> None:
    codes = [0] * (len(FLEET) - 1) + [-9]
    assert failures(codes, b"") == ["FIXER ended with exit code -9"]
    told = failures(codes, b"FIXER: why\x1b\n")
    assert told == ["FIXER: why\\x1b", "FIXER ended with exit code -9"]
    assert failures([0] * len(FLEET), b"a warning") == []


def test_the_fleet_is_nine_agents_of_which_the_fixer_goes_first() -> None:
    assert len({member.name for member in FLEET}) == len(FLEET) == 9
    assert [member.name for member in FLEET if member.is_reviewer] == [
        member.name for member in REVIEWERS
    ]
    assert FIXERS[0].priority < FIXERS[1].priority
