"""What each level of head-room would have kept in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling import headroom
from gpu_fleet.scaling.headroom import BORNE, LEVELS, Aim, late_share
from gpu_fleet.scaling.state import Hindsight, Pending

AIM = Aim(0.0025, 0.0025, 2.0, 120.0, 2.5)
ONE = LEVELS.index(min(LEVELS, key=lambda level: abs(level - 1)))


@pytest.mark.parametrize(
    ("demand", "queued", "late"),
    [
        (10.0, 0.0, 0.0),
        (11.0, 0.0, 2 / 3),  # 0.1 s a second: 2 s after 20 of 60
        (10.3, 0.0, 0.0),  # 1.8 s of queue after a minute
        (10.3, 1.8, 8 / 9),  # and 2 s after 6.7 s of the next
        (10.0, 3.0, 1.0),  # a queue that does not shrink
        (9.0, 3.0, 1 / 6),  # it takes 10 s to shrink to 2 s
        (0.0, 0.0, 0.0),
    ],
)
def test_a_wait_grows_by_what_is_too_much(demand, queued, late):
    assert late_share(demand, 10.0, 2.0, queued) == pytest.approx(late)


def test_where_nothing_stands_all_are_late():
    assert (late_share(1.0, 0.0, 2.0), late_share(0.0, 0.0, 2.0)) == (1.0, 0.0)


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 60), st.floats(0, 60))
def test_it_is_a_share_and_never_grows_with_capacity(demand, ready, wait, queued):
    share = late_share(demand, ready, wait, queued)
    assert 0 <= share <= 1
    assert late_share(demand, ready * 1.1, wait, queued) <= share + 1e-9


def orders(*made):
    """One order a minute, each due after five minutes."""
    return [Pending(60.0 * i + 300, {"none": rps}, 60.0 * i) for i, rps in enumerate(made)]


def test_what_stands_is_what_was_ordered_a_lead_time_ago():
    assert headroom.stood(orders(10, 20, 20, 20, 20, 20), AIM, 300.0) == {"none": 10}
    assert headroom.stood(orders(10, 20, 20, 20, 20, 20, 20), AIM, 360.0) == {"none": 20}
    assert headroom.stood(orders(10, 20), AIM, 299.0) == {}


def test_an_order_that_was_cancelled_on_its_way_does_not_stand():
    """The window of two minutes holds 20 until minute 3; from then on 10 is ordered."""
    assert headroom.stood(orders(20, 10, 10, 10, 10, 10), AIM, 300.0) == {"none": 10}
    assert headroom.stood(orders(20, 10, 10), AIM, 300.0) == {"none": 20}


def test_each_level_is_late_by_itself_and_its_queue_goes_on():
    record = Hindsight()
    for _ in range(3):
        record = headroom.judge(record, 10.0, 0.0, 10.0 * BORNE * 1.03, AIM, 60.0)
    late = [share / record.weight for share in record.late]
    assert late == sorted(late, reverse=True)
    below, above = ONE - 1, ONE + 1
    assert late[below] > 0.8
    assert late[above] == 0
    assert record.queued[0] == 2 * AIM.wait_seconds
    assert record.queued[above] == 0


def after_jumps(jumps: int) -> Hindsight:
    """Hours at 10 rps; a jump to 20 rps is met by what was ordered for 10 for four minutes, an hour apart."""
    record = Hindsight()
    for minute in range(60 * (jumps + 1)):
        jumped = minute >= 60 and minute % 60 < 4
        record = headroom.judge(record, 10.0, 0.0, 20.0 if jumped else 10.0, AIM, 60.0)
    return record


def test_one_jump_is_no_pattern_and_the_second_counts():
    once, twice = (headroom.late_by_level(after_jumps(jumps), 10.0, AIM, forgiving=True)[ONE + 2] for jumps in (1, 2))
    assert once < 0.006  # what is assumed before anything is known
    assert twice > 0.02
    assert headroom.late_by_level(after_jumps(1), 10.0, AIM)[ONE + 2] > 0.02  # what chooses the method forgives nothing


def test_no_more_than_a_lead_time_and_ten_minutes_are_forgiven():
    """At half of what comes a level is late all the time, whatever it is forgiven."""
    record = Hindsight()
    for _ in range(120):
        record = headroom.judge(record, 10.0, 0.0, 20.0, AIM, 60.0)
    assert record.worst[ONE] == pytest.approx(20.0 * (AIM.lead_seconds + headroom.EPISODE_SECONDS), rel=0.05)
    assert headroom.late_by_level(record, 20.0, AIM, forgiving=True)[ONE] > 0.8


def test_half_of_the_weight_is_gone_after_two_days():
    record = headroom.judge(Hindsight(), 10.0, 0.0, 20.0, AIM, 60.0)
    after = headroom.judge(record, 10.0, 0.0, 0.0, AIM, headroom.HALF_LIFE_SECONDS)
    assert after.weight == pytest.approx(record.weight / 2)
    assert after.late[0] == pytest.approx(record.late[0] / 2, abs=1e-3)


def test_the_lowest_level_within_the_budget_lies_between_two_by_their_logarithms():
    late = tuple(0.1 ** (i / 10) for i in range(len(LEVELS)))
    level = headroom.lowest_level(late, 10**-1.55, 8.0)
    assert level == pytest.approx(LEVELS[15] * headroom.STEP**0.5)
    assert headroom.lowest_level(late, 10**-1.55, 1.2) is None
    assert headroom.lowest_level((0.5,) * len(LEVELS), 0.1, 8.0) is None


def test_what_cannot_be_avoided_leaves_half_of_the_budget_and_a_tenth_of_itself():
    assert headroom.allowed(0.0025, 0.0) == 0.0025
    assert headroom.allowed(0.0025, 0.002) == pytest.approx(0.002 + 0.00125 + 0.0002)
    assert headroom.allowed(0.0025, 0.3) == pytest.approx(0.3 + 0.00125 + 0.0025)
