"""The fleet: its members."""

from fabric.demo.fleet import FIXERS, FLEET, REVIEWERS


def test_the_fleet_is_nine_agents_of_which_the_fixer_goes_first() -> None:
    assert len({member.name for member in FLEET}) == len(FLEET) == 9
    assert [member.name for member in FLEET if member.is_reviewer] == [
        member.name for member in REVIEWERS
    ]
    assert FIXERS[0].priority < FIXERS[1].priority
