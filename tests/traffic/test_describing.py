"""Statistics of traffic whose true figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.traffic import RateTrace, Trace, describe, read
from gpu_fleet.traffic.statistics import peaks, rhythms, strength


def rates(rps, step_seconds=60.0, **more) -> RateTrace:
    values = np.asarray(rps, dtype=np.float64)
    return RateTrace("t", np.arange(len(values)) * step_seconds, values, step_seconds, **more)


def requests(at) -> Trace:
    times = np.asarray(at, dtype=np.float64)
    return Trace("t", times, np.ones(len(times)), np.ones(len(times)))


@pytest.mark.parametrize(
    ("name", "step", "ratio"),
    [
        ("azure_llm_2023_conv", 60, 1.5),
        ("azure_llm_2023_code", 60, 4.1),
        ("azure_llm_2024_coding_10min", 600, 3.15),
        ("servegen_m_large_10min", 600, 2.98),
        ("nab_elb_request_count", 300, 10.6),
    ],
)
def test_peak_to_mean_of_the_recorded_traces_is_as_published(shared, name, step, ratio):
    peaks_by_step = {peak.step_seconds: peak for peak in describe(read(shared / "traces" / f"{name}.csv")).peaks}
    assert peaks_by_step[step].ratio == pytest.approx(ratio, rel=0.025)
    assert peaks_by_step[step].most_saving == pytest.approx(1 - 1 / ratio, abs=0.02)


@given(st.lists(st.floats(0, 50), min_size=4, max_size=300).filter(any))
@settings(max_examples=60, deadline=None)
def test_no_capacity_that_follows_the_demand_saves_more_than_the_bound(rps):
    trace = rates(rps)
    for peak in peaks(trace):
        assert 0 <= peak.most_saving < 1
        # Whoever carries each step's demand pays at least its mean; static capacity pays its peak.
        assert 1 - peak.mean_rps / peak.peak_rps == pytest.approx(peak.most_saving)
    finest, *coarser = peaks(trace)
    assert all(peak.peak_rps <= finest.peak_rps + 1e-9 for peak in coarser)


def test_poisson_traffic_has_a_dispersion_of_one():
    statistics = describe(rates(np.full(60, 30.0), 600.0).sample(2))
    for value in statistics.dispersion.values():
        assert value == pytest.approx(1, abs=0.1)
    assert statistics.gap_variation == pytest.approx(1, abs=0.05)


def test_a_metronome_has_no_bursts():
    statistics = describe(requests(np.arange(0.005, 1200, 0.1)))
    assert all(value < 0.01 for value in statistics.dispersion.values())
    assert statistics.gap_variation == pytest.approx(0, abs=1e-6)


def test_the_rise_of_a_day_is_not_a_burst():
    hours = rates(np.linspace(1, 40, 144), 600.0, burstiness=1.0)
    dispersion = describe(hours.sample(3)).dispersion
    assert dispersion[60.0] == pytest.approx(1, abs=0.15)


def test_clumps_raise_dispersion_and_gap_variation():
    statistics = describe(rates(np.full(40, 20.0), 600.0, burstiness=3.0).sample(4))
    assert statistics.gap_variation == pytest.approx(9, rel=0.1)
    assert statistics.dispersion[60.0] > 6


def test_a_daily_rhythm_is_found_and_noise_has_none():
    at = np.arange(14 * 144) * 600.0
    daily = rates(10 + 5 * np.sin(at / 86_400 * 2 * np.pi), 600.0)
    assert rhythms(daily) == pytest.approx({"day": 1, "week": 1}, abs=1e-6)
    noise = rates(np.random.default_rng(1).random(len(at)), 600.0)
    assert all(abs(value) < 0.1 for value in rhythms(noise).values())
    weekly = rates(np.where(at // 86_400 % 7 >= 5, 1.0, 10.0), 600.0)
    correlations = rhythms(weekly)
    assert correlations["week"] == pytest.approx(1)
    assert correlations["day"] < 0.75


def test_a_trace_too_short_for_a_rhythm_has_none():
    assert rhythms(rates(np.arange(100.0))) == {}


@pytest.mark.parametrize(
    ("value", "word"), [(-0.9, "none"), (0.1, "none"), (0.3, "weak"), (0.6, "clear"), (0.9, "strong")]
)
def test_a_correlation_has_a_word(value, word):
    assert strength(value) == word


def test_the_steepest_rise_is_within_the_lead_time():
    assert describe(rates([1, 1, 1, 1, 1, 1, 10, 10])).steepest_rise == pytest.approx(0.9)
    assert describe(rates([10, 8, 6, 4, 3, 2, 1, 1])).steepest_rise == 0
    slow = describe(rates([1, 10, 1, 1], 600.0))
    assert (slow.steepest_rise, slow.rise_seconds) == (pytest.approx(0.9), 600)


def test_a_single_request_is_described_without_peaks():
    statistics = describe(requests([0.0]))
    assert statistics.requests == 1
    assert statistics.peaks == ()
    assert statistics.gap_variation is None
    assert statistics.most_saving == 0


def test_a_trace_without_requests_is_described():
    statistics = describe(rates(np.zeros(10)))
    assert statistics.most_saving == 0
    assert statistics.steepest_rise is None
