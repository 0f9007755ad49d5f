"""Generated traffic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.traffic import Shape, describe, generate, hour, to_rates


def test_the_same_seed_gives_the_same_trace_and_another_seed_another():
    assert np.array_equal(generate(seed=3).rps, generate(seed=3).rps)
    assert not np.array_equal(generate(seed=3).rps, generate(seed=4).rps)


@given(
    st.floats(0.01, 3),
    st.floats(0.1, 500),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 20),
    st.floats(1, 5),
    st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_the_highest_step_is_the_peak_for_every_shape(days, peak, night, weekend, bursts, factor, seed):
    shape = Shape(
        days=days, peak_rps=peak, night_share=night, weekend_share=weekend, bursts_per_day=bursts, burst_factor=factor
    )
    trace = generate(shape, seed)
    assert trace.rps.max() == pytest.approx(peak)
    assert trace.rps.min() >= 0
    assert trace.span_seconds == pytest.approx(days * 86_400, abs=60)


def test_generated_days_have_nights_and_weekends_and_a_rhythm():
    trace = generate(Shape(days=14, bursts_per_day=0, noise=0))
    by_day = to_rates(trace, 3600).rps.reshape(14, 24)
    assert by_day[0, 5] < 0.35 * by_day[0, 10]
    assert by_day[0, 12] < by_day[0, 11] > by_day[0, 13]
    assert by_day[5].mean() == pytest.approx(0.55 * by_day[4].mean())
    assert describe(trace).rhythms["week"] == pytest.approx(1)


def test_bursts_have_the_requested_frequency_and_length():
    shape = Shape(
        days=200, night_share=1, weekend_share=1, noise=0, bursts_per_day=6, burst_seconds=900, burst_factor=2
    )
    bursting = generate(shape, 1).rps > 15
    starts = np.count_nonzero(np.diff(bursting.astype(int)) == 1)
    # Bursts or pauses shorter than the step of a minute go unseen: a few percent.
    assert starts / 200 == pytest.approx(6, rel=0.12)
    assert bursting.sum() * 60 / starts == pytest.approx(900, rel=0.12)


def test_without_bursts_and_noise_the_seed_has_no_effect():
    shape = Shape(bursts_per_day=0, noise=0)
    assert np.array_equal(generate(shape, 1).rps, generate(shape, 2).rps)


@pytest.mark.parametrize("seed", range(5))
def test_the_demos_hour_rises_dips_and_goes_higher(seed):
    trace = hour(12, seed)
    minutes = to_rates(trace, 60).rps
    assert trace.span_seconds == 3600
    assert trace.rps.max() == pytest.approx(12)
    morning, dip, afternoon = minutes[26:30].mean(), minutes[38:42].mean(), minutes[56:].mean()
    assert minutes[:4].mean() < 0.6 * morning
    assert dip < 0.75 * morning
    assert afternoon > 1.02 * morning
    assert len(trace.sample(seed)) == pytest.approx(trace.expected_requests, rel=0.03)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"days": 0}, "days: must be above 0"),
        ({"peak_rps": -1}, "peak_rps: must be above 0"),
        ({"night_share": 1.5}, "night_share: must be from 0 to 1"),
        ({"burst_factor": 0.5}, "burst_factor: must be at least 1"),
        ({"bursts_per_day": 200}, "would fill the day"),
        ({"noise": -0.1}, "noise: must not be negative"),
        ({"days": 0.0001}, "at least one step"),
    ],
)
def test_an_invalid_shape_is_refused_by_field(change, words):
    with pytest.raises(ValueError, match=words):
        Shape(**change)
