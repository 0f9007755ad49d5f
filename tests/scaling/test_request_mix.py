"""Capacity follows the measured requests."""

import pytest

from gpu_fleet.scaling import request_mix
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.profile import Speed
from gpu_fleet.scaling.service import Alternative
from gpu_fleet.scaling.state import State
from tests.scaling.builders import NOW, pool, remembered, seen, service

SPEED = Speed(
    prefill_tokens_per_second=10000,
    decode_base_seconds=0.02,
    decode_seconds_per_sequence=0.0002,
    kv_cache_tokens=200_000,
    max_sequences=256,
)
CHAT = service(pool(speed=SPEED))


def as_seen(of, view, state, now):
    made = request_mix.as_seen(Context(of, view, state, now))
    return made.service, made.state


def lengths(tokens_in, tokens_out, at=NOW):
    return seen(at=at, input_tokens=Reading(tokens_in, at), output_tokens=Reading(tokens_out, at))


def seen_for_hours(tokens_in, tokens_out):
    return remembered(at=NOW - 60, request=(float(tokens_in), float(tokens_out)))


def test_the_first_requests_to_end_are_short_and_do_not_set_the_capacity():
    adapted, state = as_seen(CHAT, lengths(100, 20), State(at=NOW - 60), NOW)
    typical = CHAT.policy.request
    assert 0.9 * typical.input_tokens < state.requests.tokens[0] < typical.input_tokens
    assert (
        adapted.pools[0].throughput_rps
        < 2 * as_seen(CHAT, lengths(1000, 200), State(at=NOW - 60), NOW)[0].pools[0].throughput_rps
    )


def test_long_prompts_make_fewer_requests_fit():
    short, _ = as_seen(CHAT, lengths(1000, 200), seen_for_hours(1000, 200), NOW)
    long, _ = as_seen(CHAT, lengths(12000, 340), seen_for_hours(12000, 340), NOW)
    # memory: 200,000 / (12,000 + 170) = 16 at a time, against 181
    assert long.pools[0].capacity <= 200_000 / 12_170
    assert long.pools[0].capacity < short.pools[0].capacity / 5
    assert long.pools[0].throughput_rps < short.pools[0].throughput_rps / 5


def test_what_is_sized_for_is_the_request_that_is_seen():
    adapted, state = as_seen(CHAT, lengths(12000, 340), seen_for_hours(12000, 340), NOW)
    assert adapted.policy.request.input_tokens == 12000
    assert state.requests.tokens == (12000, 340)


def test_the_mean_follows_longer_requests_faster_than_shorter_ones():
    state = remembered(at=NOW, request=(1000.0, 200.0))
    _, longer = as_seen(CHAT, lengths(2000, 200, NOW + 240), state, NOW + 240)
    assert longer.requests.tokens == pytest.approx((1500, 200))
    _, shorter = as_seen(CHAT, lengths(500, 200, NOW + 600), state, NOW + 600)
    assert shorter.requests.tokens == pytest.approx((750, 200))


def test_a_busy_first_minute_of_long_requests_moves_the_mean_at_once():
    """834 requests of 12,000 tokens against a typical one that weighs 200: 1,000 + 11,000 * 834 / 1,034."""
    busy = seen(arrivals=13.9, input_tokens=Reading(12000, NOW), output_tokens=Reading(200, NOW))
    typical = CHAT.policy.request.input_tokens
    _, state = as_seen(CHAT, busy, State(at=NOW - 60), NOW)
    assert state.requests.tokens[0] == pytest.approx(typical + (12000 - typical) * 834 / 1034)
    assert state.requests.count == 834


def test_a_few_long_requests_of_a_quiet_service_do_not():
    quiet = seen(arrivals=0.05, input_tokens=Reading(12000, NOW), output_tokens=Reading(200, NOW))
    _, state = as_seen(CHAT, quiet, State(at=NOW - 60), NOW)
    assert state.requests.tokens[0] < 0.3 * 12000


def test_after_hours_one_busy_minute_moves_the_lengths_no_faster_than_its_time():
    busy = seen(arrivals=13.9, input_tokens=Reading(2000, NOW), output_tokens=Reading(200, NOW))
    lived = remembered(at=NOW - 60, request=(1000.0, 200.0), request_count=10_000.0)
    _, state = as_seen(CHAT, busy, lived, NOW)
    assert state.requests.tokens[0] == pytest.approx(1000 + 1000 * (1 - 0.5 ** (60 / 240)), rel=1e-3)


def test_unknown_lengths_change_nothing():
    adapted, state = as_seen(CHAT, seen(arrivals=1.0), State(), NOW)
    assert adapted is CHAT
    assert state.requests.tokens is None


def test_a_stale_length_does_not_count():
    _, state = as_seen(CHAT, lengths(5000, 100, NOW - 400), State(), NOW)
    assert state.requests.tokens is None


def test_a_pool_of_unknown_speed_stays_as_it_is():
    plain = service()
    adapted, _ = as_seen(plain, lengths(12000, 340), State(), NOW)
    assert adapted.pools == plain.pools


def test_a_prompt_too_long_for_the_slo_rules_a_type_out():
    slow = SPEED.model_copy(update={"prefill_tokens_per_second": 1000.0})
    svc = service(pool(speed=slow), slo={"ttft_seconds": 2, "tpot_seconds": 0.1})
    adapted, _ = as_seen(svc, lengths(12000, 340), seen_for_hours(12000, 340), NOW)
    assert not adapted.pools[0].reaches_slo  # 12 s to read the prompt, 2 allowed


def test_an_instance_with_eight_copies_carries_eight_times_as_much():
    one, _ = as_seen(CHAT, lengths(1000, 200), seen_for_hours(1000, 200), NOW)
    eight, _ = as_seen(service(pool(speed=SPEED, copies=8)), lengths(1000, 200), seen_for_hours(1000, 200), NOW)
    assert eight.pools[0].capacity == pytest.approx(8 * one.pools[0].capacity)
    assert eight.pools[0].throughput_rps == pytest.approx(8 * one.pools[0].throughput_rps)


def test_the_figures_follow_the_answers_as_well_as_the_prompts():
    adapted, _ = as_seen(CHAT, lengths(1000, 340), seen_for_hours(1000, 340), NOW)
    assert adapted.policy.request.output_tokens == 340


def test_alternative_types_follow_the_requests_too():
    kind = Alternative(
        types=("g5.xlarge",), capacity=20.0, throughput_rps=2.0, on_demand_usd_per_hour=1.0, speed=SPEED, copies=2
    )
    of = service(pool(speed=SPEED, alternatives=(kind,)))
    adapted, _ = as_seen(of, lengths(12000, 340), seen_for_hours(12000, 340), NOW)
    (now_pool,) = adapted.pools
    (now_kind,) = now_pool.alternatives
    assert now_kind.throughput_rps == pytest.approx(2 * now_pool.throughput_rps)
    assert now_kind.capacity == pytest.approx(2 * now_pool.capacity)


@pytest.mark.parametrize("which", ["input_tokens", "output_tokens"])
def test_prompts_without_answers_or_answers_without_prompts_teach_nothing(which):
    before = seen_for_hours(1000, 200)
    _, state = as_seen(CHAT, seen(**{which: Reading(5000, NOW)}), before, NOW)
    assert state == before


def test_a_second_run_at_the_same_time_moves_nothing():
    _, state = as_seen(CHAT, lengths(2000, 400), remembered(at=NOW, request=(1000.0, 200.0)), NOW)
    assert state.requests.tokens == (1000, 200)


def test_after_a_long_pause_one_run_counts_for_ten_minutes():
    _, state = as_seen(CHAT, lengths(500, 100), remembered(at=NOW - 7200, request=(1000.0, 200.0)), NOW)
    assert state.requests.tokens == (750, 150)


def test_the_number_of_measured_requests_halves_in_four_minutes():
    lived = remembered(at=NOW - 240, request=(1000.0, 200.0), request_count=1000.0)
    assert as_seen(CHAT, lengths(1000, 200), lived, NOW)[1].requests.count == 500


def test_long_requests_are_weighed_against_the_typical_and_the_remembered_ones():
    """1,200 new requests against 200 of the typical one and 50 left of 100: 1,200 of 1,450 parts."""
    lived = remembered(at=NOW - 240, request=(1000.0, 200.0), request_count=100.0)
    busy = seen(arrivals=5.0, input_tokens=Reading(2450, NOW), output_tokens=Reading(200, NOW))
    _, state = as_seen(CHAT, busy, lived, NOW)
    assert state.requests.tokens[0] == pytest.approx(1000 + 1450 * 1200 / 1450)
    assert state.requests.count == 1250


def test_a_request_every_few_minutes_is_counted_in_parts():
    """0.3 a minute, rounded to whole requests, would never add up to one."""
    rare = seen(arrivals=0.005, input_tokens=Reading(1000, NOW), output_tokens=Reading(200, NOW))
    assert as_seen(CHAT, rare, State(at=NOW - 60), NOW)[1].requests.count == 0.3
