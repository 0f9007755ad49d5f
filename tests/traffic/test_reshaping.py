"""Cropping, scaling, resampling, and writing and reading back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.traffic import RateTrace, Trace, crop, peak_rps, read, scale_to, to_rates, write


def rates(rps, step_seconds=60.0, **more) -> RateTrace:
    values = np.asarray(rps, dtype=np.float64)
    return RateTrace("t", np.arange(len(values)) * step_seconds, values, step_seconds, **more)


def requests(at, **more) -> Trace:
    times = np.asarray(at, dtype=np.float64)
    return Trace("t", times, np.arange(len(times)) + 1.0, np.arange(len(times)) + 2.0, **more)


def test_requests_are_counted_by_step_and_a_partial_last_step_is_left_out():
    counted = to_rates(requests([0, 10, 59.9, 60, 119, 125]), 60)
    assert counted.rps.tolist() == pytest.approx([3 / 60, 2 / 60])


def test_a_request_at_the_end_of_the_span_counts_in_the_last_step():
    assert to_rates(requests([0, 60]), 60).rps.tolist() == pytest.approx([2 / 60])


@given(st.lists(st.floats(0, 100), min_size=4, max_size=60), st.sampled_from([10.0, 45.0, 60.0, 90.0, 120.0]))
@settings(max_examples=60, deadline=None)
def test_resampled_rates_keep_the_number_of_requests(rps, step):
    trace = rates(rps)
    anew = to_rates(trace, step)
    whole = np.floor(trace.span_seconds / step + 1e-9) * step
    kept = sum(r * max(0.0, min(60.0, whole - 60 * i)) for i, r in enumerate(rps))
    assert anew.expected_requests == pytest.approx(kept, rel=1e-9, abs=1e-6)
    assert anew.rps.max() <= max(rps) + 1e-9


def test_a_trace_shorter_than_a_step_is_refused():
    with pytest.raises(ValueError, match="less than one step of 60 s"):
        to_rates(requests([0, 30]), 60)


def test_a_part_begins_at_zero_and_keeps_its_absolute_time():
    part = crop(requests([0, 50, 70, 100, 160], starts_at=1000.0), 60, 120)
    assert part.at_seconds.tolist() == [10, 40]
    assert part.input_tokens.tolist() == [3, 4]
    assert part.span_seconds == 60
    assert part.starts_at == 1060


def test_a_part_of_rates_is_whole_steps():
    part = crop(rates([1, 2, 3, 4], starts_at=0.0), 30, 200)
    assert part.rps.tolist() == [2, 3]
    assert part.starts_at == 60


@pytest.mark.parametrize(("start", "end"), [(5, 5), (9, 3), (-1, 5), (61, 99)])
def test_an_empty_part_is_refused(start, end):
    with pytest.raises(ValueError, match="from"):
        crop(requests([0, 60, 100]), start, end)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30), st.floats(0.1, 1000))
@settings(max_examples=40, deadline=None)
def test_scaled_rates_have_the_requested_peak_and_the_same_shape(rps, peak):
    trace = rates(rps)
    scaled = scale_to(trace, peak)
    assert peak_rps(scaled) == pytest.approx(peak)
    assert scaled.rps * max(rps) == pytest.approx(trace.rps * peak)


@pytest.mark.parametrize("factor", [0.2, 0.9, 1.0, 2.5, 8.0])
def test_scaled_requests_come_near_the_peak_and_keep_span_and_mix(factor):
    trace = rates(np.tile([20.0, 50.0], 15)).sample(1)
    scaled = scale_to(trace, peak_rps(trace) * factor, seed=3)
    assert len(scaled) == pytest.approx(len(trace) * factor, rel=0.03)
    # The highest of fifteen minutes, each of which is met in the mean: four standard errors of a count.
    peak = peak_rps(trace) * factor
    assert peak_rps(scaled) == pytest.approx(peak, rel=4 / np.sqrt(peak * 60))
    assert scaled.span_seconds == trace.span_seconds
    assert scaled.input_tokens.mean() == pytest.approx(trace.input_tokens.mean(), rel=0.05)
    assert np.array_equal(scaled.at_seconds, scale_to(trace, peak_rps(trace) * factor, seed=3).at_seconds)


def test_copies_do_not_arrive_at_the_same_moment():
    trace = rates([30.0] * 10).sample(1)
    scaled = scale_to(trace, peak_rps(trace) * 10)
    counts = np.bincount(scaled.at_seconds.astype(int))
    # All ten at once would give an index of dispersion near 10.
    assert counts.var() / counts.mean() < 3


@pytest.mark.parametrize("peak", [0, -1, float("nan"), float("inf")])
def test_an_invalid_peak_is_refused(peak):
    with pytest.raises(ValueError, match="peak_rps: must be above 0"):
        scale_to(rates([1]), peak)


def test_a_trace_without_requests_cannot_be_scaled():
    with pytest.raises(ValueError, match="no requests"):
        scale_to(rates([0, 0]), 5)


@given(
    st.lists(st.floats(0, 1e5), min_size=1, max_size=30),
    st.lists(st.integers(0, 99_999), min_size=30, max_size=30),
    st.sampled_from([None, 1714521600.0]),
)
@settings(max_examples=40, deadline=None)
def test_written_requests_are_read_back(tmp_path_factory, at, tokens, starts_at):
    times = np.sort(np.asarray(at))
    times -= times[0]
    lengths = np.asarray(tokens[: len(times)], dtype=float)
    trace = Trace("t", times, lengths, lengths[::-1].copy(), starts_at=starts_at)
    path = tmp_path_factory.mktemp("w") / "t.csv"
    write(trace, path)
    again = read(path)
    assert again.at_seconds == pytest.approx(times, abs=2e-6)
    assert np.array_equal(again.input_tokens, trace.input_tokens)
    assert np.array_equal(again.output_tokens, trace.output_tokens)
    assert again.starts_at == starts_at


@given(
    st.lists(st.floats(0, 1e4), min_size=2, max_size=40),
    st.sampled_from([10.0, 60.0, 600.0]),
    st.sampled_from([None, 1714521600.0]),
)
@settings(max_examples=40, deadline=None)
def test_written_rates_are_read_back(tmp_path_factory, rps, step, starts_at):
    trace = rates(rps, step, starts_at=starts_at)
    path = tmp_path_factory.mktemp("w") / "t.csv"
    write(trace, path)
    again = read(path)
    assert again.rps == pytest.approx(trace.rps)
    assert again.step_seconds == step
    assert again.starts_at == starts_at


def test_a_gap_is_written_as_a_gap(tmp_path):
    path = tmp_path / "t.csv"
    write(rates([1, 2, 9, 4], measured=np.array([True, True, False, True])), path)
    again = read(path)
    assert again.measured.tolist() == [True, True, False, True]
    assert again.rps.tolist() == [1, 2, 3, 4]
