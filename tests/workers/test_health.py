"""When a worker rests, and when it works again."""

from workers.health import DOUBLINGS_MAX, LOSSES, REST_LEASES, STEADY_LEASES, TRIPS, Health

LEASE_MS = 1_000
REST_MS = REST_LEASES * LEASE_MS


def measured(*trips_ms: float) -> Health:
    health = Health(LEASE_MS)
    for trip_ms in trips_ms:
        health.answered(trip_ms)
    return health


def sick(health: Health) -> Health:
    for _ in range(TRIPS):
        health.answered(200)
    return health


def well(health: Health) -> Health:
    for _ in range(TRIPS):
        health.answered(2)
    return health


def test_a_round_trip_far_above_a_peers_is_sick() -> None:
    assert "200 ms, a peer's 2" in sick(measured()).look(0, [50, 2])


def test_a_slow_server_is_slow_for_all() -> None:
    assert sick(measured()).look(0, [190]) == ""


def test_a_longer_way_that_nobody_notices_is_no_sickness() -> None:
    assert measured(*[30.0] * TRIPS).look(0, [0.3]) == ""


def test_one_late_answer_is_no_sickness() -> None:
    assert measured(2, 2, 5_000, 2, 2).look(0, [2]) == ""


def test_too_few_round_trips_say_nothing() -> None:
    assert measured(*[200.0] * (TRIPS - 1)).look(0, [2]) == ""


def test_who_is_alone_works_however_sick() -> None:
    health = sick(measured())
    assert health.look(0, []) == ""
    assert health.look(1, [2])
    assert health.look(2, []) == "", "the others have gone"


def test_it_rests_for_a_while_and_until_it_is_well() -> None:
    health = sick(measured())
    assert health.look(0, [2])
    assert health.look(REST_MS, [2]), "still sick"
    well(health)
    assert health.look(REST_MS + 1, [2]) == ""
    assert sick(health).look(REST_MS + 2, [2])
    well(health)
    assert health.look(REST_MS + 3, [2]), "not at once"
    assert health.look(3 * REST_MS + 2, [2]) == "", "twice as long"


def test_a_link_at_the_border_does_not_flap() -> None:
    health = sick(measured())
    assert health.look(0, [2])
    for _ in range(TRIPS):
        health.answered(80)
    assert health.look(REST_MS, [2])


def test_rests_grow_to_a_limit_and_begin_anew_after_steady_work() -> None:
    health, now_ms = measured(), 0.0
    for turn in range(DOUBLINGS_MAX + 3):
        assert sick(health).look(now_ms, [2])
        well(health)
        rest_ms = REST_MS * 2 ** min(turn, DOUBLINGS_MAX)
        assert health.look(now_ms + rest_ms - 1, [2]), turn
        now_ms += rest_ms
        assert health.look(now_ms, [2]) == "", turn
    now_ms += STEADY_LEASES * LEASE_MS
    assert sick(health).look(now_ms, [2])
    assert well(health).look(now_ms + REST_MS, [2]) == ""


def test_leases_lost_one_after_the_other_are_a_sickness() -> None:
    health = well(measured())
    for turn in range(LOSSES):
        assert health.look(turn * LEASE_MS, [2]) == ""
        health.lost()
        health.lost()  # several partitions at a time count once
    assert "lost 3 leases" in health.look(LOSSES * LEASE_MS, [2])


def test_leases_lost_now_and_then_are_none() -> None:
    health = well(measured())
    for turn in range(9):
        health.lost()
        assert health.look(turn * 7 * LEASE_MS, [2]) == ""
