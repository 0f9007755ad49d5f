"""Single requests drawn from rates."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.traffic import RateTrace, Trace, read
from gpu_fleet.traffic.arrivals import arrivals
from gpu_fleet.traffic.tokens import ANSWERS, PROMPTS, TokenLengths


def rates(rps, step_seconds=60.0, **more) -> RateTrace:
    values = np.asarray(rps, dtype=np.float64)
    return RateTrace("t", np.arange(len(values)) * step_seconds, values, step_seconds, **more)


def joined(trace, window_seconds, **more):
    parts = list(trace.windows(window_seconds, **more))
    return tuple(
        np.concatenate([getattr(p, name) for p in parts]) for name in ("at_seconds", "input_tokens", "output_tokens")
    )


RATES = st.lists(st.floats(0, 5), min_size=1, max_size=40)
WINDOWS = st.floats(7, 5000)
BURSTINESS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.45])


@given(RATES, WINDOWS, BURSTINESS, st.sampled_from([10.0, 60.0, 600.0]), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_windows_of_every_length_cut_the_same_stream(rps, window, burstiness, step, seed):
    trace = rates(rps, step, burstiness=burstiness)
    whole = joined(trace, trace.span_seconds, seed=seed)
    cut = joined(trace, window, seed=seed)
    for one, other in zip(whole, cut, strict=True):
        assert np.array_equal(one, other)


@given(RATES, WINDOWS, BURSTINESS, st.sampled_from([10.0, 60.0, 600.0]))
@settings(max_examples=60, deadline=None)
def test_every_request_is_in_its_window_and_in_order(rps, window, burstiness, step):
    trace = rates(rps, step, burstiness=burstiness)
    end = 0.0
    for part in trace.windows(window, seed=3):
        assert part.starts_seconds == pytest.approx(end)
        end = part.ends_seconds
        assert len(part.at_seconds) == len(part.input_tokens) == len(part.output_tokens)
        assert (np.diff(part.at_seconds) >= 0).all()
        if len(part):
            assert part.starts_seconds <= part.at_seconds[0]
            assert part.at_seconds[-1] < part.ends_seconds
            assert part.input_tokens.min() >= 1
            assert part.output_tokens.min() >= 1
    assert end == pytest.approx(trace.span_seconds)


@given(RATES, BURSTINESS)
@settings(max_examples=40, deadline=None)
def test_a_step_without_rate_gets_no_request(rps, burstiness):
    trace = rates(rps, 10.0, burstiness=burstiness)
    at, _, _ = joined(trace, 600, seed=1)
    counts = np.bincount((at // 10).astype(int), minlength=len(rps))
    assert (counts[np.asarray(rps) == 0] == 0).all()


@pytest.mark.parametrize("burstiness", [0.0, 0.5, 1.0, 3.45])
@pytest.mark.parametrize("step_seconds", [10.0, 600.0])
def test_the_mean_of_the_draws_is_the_rate(burstiness, step_seconds):
    trace = rates(np.tile([2.0, 6.0, 0.0, 12.0], 250), step_seconds, burstiness=burstiness)
    at, _, _ = joined(trace, 6000, seed=11)
    per_step = np.bincount((at // step_seconds).astype(int), minlength=1000).reshape(250, 4)
    means = per_step.mean(axis=0) / step_seconds
    # Index of dispersion burstiness^2: the standard error of a mean of 250 steps, times four.
    errors = 4 * np.sqrt(max(burstiness, 0.3) ** 2 * np.array([2, 6, 0, 12]) / step_seconds / 250)
    assert (np.abs(means - [2, 6, 0, 12]) <= errors + 1e-12).all()


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 2.0, 3.45])
def test_the_draws_have_the_requested_burstiness(burstiness):
    trace = rates(np.full(200, 20.0), 600.0, burstiness=burstiness)
    at, _, _ = joined(trace, 6000, seed=5)
    gaps = np.diff(at)
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness, rel=0.05)
    # Counts over a minute (1200 requests, many clumps): variance / mean comes near burstiness^2.
    counts = np.bincount((at // 60).astype(int), minlength=2000)
    assert counts.var() / counts.mean() == pytest.approx(burstiness**2, rel=0.15)


def test_the_same_seed_draws_the_same_requests_and_another_seed_others():
    trace = rates([3.0] * 10)
    one, same, other = (trace.sample(seed) for seed in (1, 1, 2))
    assert np.array_equal(one.at_seconds, same.at_seconds)
    assert not np.array_equal(one.at_seconds, other.at_seconds)


def test_arrivals_skip_an_idle_step_between_busy_ones():
    at = arrivals(np.array([50.0, 0.0, 0.0, 50.0]), 10.0, 1.0, np.random.default_rng(0))
    assert not ((at >= 10) & (at < 30)).any()
    assert (at < 10).any()
    assert (at >= 30).any()


def test_two_weeks_of_millions_of_requests_need_the_memory_of_a_window():
    trace = rates(np.full(2016, 20.0), 600.0, burstiness=3.45)  # 24 million requests: 580 MB at once
    windows = trace.windows(600)
    next(windows)
    tracemalloc.start()
    for _ in range(20):
        next(windows)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 6_000_000


def test_windows_of_recorded_requests_are_views_and_include_idle_ones():
    trace = Trace("t", np.array([0.0, 1, 250, 300]), np.ones(4), np.ones(4))
    parts = list(trace.windows(100))
    assert [len(part) for part in parts] == [2, 0, 2]
    assert parts[-1].ends_seconds == 300
    assert all(np.shares_memory(part.at_seconds, trace.at_seconds) for part in parts if len(part))


def test_the_token_figures_fit_the_recorded_conversation(shared):
    trace = read(shared / "traces" / "azure_llm_2023_conv.csv")
    for lengths, tokens in ((PROMPTS, trace.input_tokens), (ANSWERS, trace.output_tokens)):
        logarithms = np.log(np.maximum(tokens, 1.0))
        assert lengths.median == pytest.approx(np.exp(logarithms.mean()), rel=0.005)
        assert lengths.sigma == pytest.approx(logarithms.std(), rel=0.005)
        assert lengths.longest == pytest.approx(tokens.max(), rel=0.005)


def test_lengths_are_whole_tokens_within_the_limit_and_have_the_mean_of_their_lognormal():
    # Mean 1000: 616 * exp(0.985^2 / 2). A little below: the longest are cut at twelve means.
    tokens = TokenLengths(median=1000 / np.exp(0.985**2 / 2), sigma=0.985, longest=12_000).draw(
        200_000, np.random.default_rng(4)
    )
    assert tokens.mean() == pytest.approx(1000, rel=0.02)
    assert tokens.min() >= 1
    assert tokens.max() <= 12_000
    assert (tokens == np.rint(tokens)).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rps": np.array([1.0, -1.0])}, "rps: must be finite and not negative"),
        ({"rps": np.array([1.0])}, "rps: must be as long as at_seconds"),
        ({"at_seconds": np.array([0.0, 61.0])}, "at_seconds: must be 0, step_seconds"),
        ({"step_seconds": 0.0}, "step_seconds: must be above 0"),
        ({"burstiness": -1.0}, "burstiness: must not be negative"),
    ],
)
def test_invalid_rates_are_refused(change, words):
    fields = {"name": "t", "at_seconds": np.array([0.0, 60.0]), "rps": np.ones(2), "step_seconds": 60.0} | change
    with pytest.raises(ValueError, match=words):
        RateTrace(**fields)


@pytest.mark.parametrize(
    ("at", "tokens", "words"),
    [
        ([], [], "at least one request"),
        ([1, 0], [1, 1], "must not go backwards"),
        ([-1, 0], [1, 1], "at_seconds: must be finite and not negative"),
        ([0, 1], [1, float("nan")], "input_tokens: must be finite"),
        ([0, 1], [1], "input_tokens: must be as long as at_seconds"),
    ],
)
def test_invalid_requests_are_refused(at, tokens, words):
    with pytest.raises(ValueError, match=words):
        Trace("t", np.array(at, dtype=float), np.array(tokens, dtype=float), np.ones(len(at)))
