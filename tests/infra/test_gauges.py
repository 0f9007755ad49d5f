"""What an instance publishes, from two pages of its engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.policy import Slo
from gpu_fleet.scaling.state import State
from gpu_fleet.simulator.simulation import Engine, Simulation, SimulationOptions
from infra.instance.node import boot_phases
from infra.instance.node import gauges as node
from infra.instance.node.container import round_trip_seconds
from infra.instance.node.exposition import MetricSample, parse
from infra.user_data import FOLDER
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.queries import queries

FIRST = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 7.0
vllm:num_requests_running{engine="1",model_name="m"} 5.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.40
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.60
vllm:request_prompt_tokens_sum{engine="0"} 1000.0
vllm:request_prompt_tokens_count{engine="0"} 10.0
vllm:request_generation_tokens_sum{engine="0"} 500.0
vllm:request_generation_tokens_count{engine="0"} 10.0
vllm:e2e_request_latency_seconds_count{engine="0"} 10.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5"} 10.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0"} 10.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 10.0
"""
SECOND = (
    FIRST.replace('tokens_sum{engine="0"} 1000.0', 'tokens_sum{engine="0"} 4000.0')
    .replace('prompt_tokens_count{engine="0"} 10.0', 'prompt_tokens_count{engine="0"} 20.0')
    .replace('latency_seconds_count{engine="0"} 10.0', 'latency_seconds_count{engine="0"} 20.0')
    .replace('le="1.0"} 10.0', 'le="1.0"} 20.0')
    .replace('le="+Inf"} 10.0', 'le="+Inf"} 20.0')
)


def test_the_first_scrape_has_only_current_values() -> None:
    gauges = node.gauges(parse(FIRST), None, 10)
    assert gauges == {"requests_running": 12.0, "requests_waiting": 2.0, "kv_cache_percent": pytest.approx(50.0)}


def test_means_are_over_the_requests_that_finished_since() -> None:
    """Ten prompts with 3000 tokens finished; no answer did, so its mean is missing and not zero."""
    gauges = node.gauges(parse(SECOND), parse(FIRST), 10)
    assert gauges["input_tokens"] == 300.0
    assert "output_tokens" not in gauges
    # All ten new values are between 0.5 and 1 s; the quantile is 95 % of the way.
    assert gauges["ttft_p95_seconds"] == pytest.approx(0.975)


def test_a_restarted_engine_gives_no_negative_rates() -> None:
    gauges = node.gauges(parse(FIRST), parse(SECOND), 10)
    assert "input_tokens" not in gauges
    assert "finished_rps" not in gauges
    assert "ttft_p95_seconds" not in gauges


def test_a_finish_rate_of_zero_is_published() -> None:
    assert node.gauges(parse(SECOND), parse(FIRST), 10)["finished_rps"] == 1.0
    assert node.gauges(parse(FIRST), parse(FIRST), 10)["finished_rps"] == 0.0


def test_a_workers_job_durations_are_published() -> None:
    before = "jobs_running 1\njob_remaining_seconds 90\njob_seconds_sum 100\njob_seconds_count 1\n"
    after = "jobs_running 1\njob_remaining_seconds 80\njob_seconds_sum 500\njob_seconds_count 3\n"
    assert node.gauges(parse(after), parse(before), 10) == {
        "jobs_running": 1.0, "job_remaining_seconds": 80.0, "job_seconds": 200.0,
    }  # fmt: skip
    assert node.in_hand(parse(after)) == 1.0


def test_everything_that_the_scaler_reads_is_published() -> None:
    agent = json.loads((FOLDER / "agent.json").read_text().replace("@REGION@", "us-east-1"))["metrics"][
        "metrics_collected"
    ]
    published = {*node.published(), "network_latency_seconds"}
    assert set(agent["statsd"]["drop_original_metrics"]) == published
    published |= {boot_phases.METRIC}
    published |= {m["rename"] for k in ("nvidia_gpu", "cpu", "mem") for m in agent[k]["measurement"]}
    limits = {
        "cpu_percent": 1,
        "memory_percent": 1,
        "gpu_percent": 1,
        "kv_cache_percent": 1,
        "network_latency_seconds": 1,
    }
    pool = {"name": "a", "types": ["g6.xlarge"], "min_instances": 0, "max_instances": 1, "capacity": 1,
            "throughput_rps": 1, "on_demand_usd_per_hour": 1}  # fmt: skip
    for workload in ("inference", "training"):
        policy = {"model": "m", "workload": workload, "thresholds": limits, "slo": {"ttft_seconds": 1}}
        parameter = ServiceParameter.model_validate(
            {
                "service": {"name": "s", "policy": policy, "pools": [pool]},
                "bindings": {"load_balancer": "app/l", "pools": {"a": {"group": "g", "target_group_arn": "t"}}},
            }
        )
        state = cast("State", SimpleNamespace(wants_instance_loads=True, wants_history=True, pool=State().pool))
        minute_queries = queries(parameter, state, {"a": ["i-1"]}).minute()
        assert {query.name for query in minute_queries if query.namespace == "GpuFleet"} <= published


def test_sglang_and_a_users_own_worker_are_understood() -> None:
    sglang = 'sglang:num_running_reqs{m="x"} 3\nsglang:num_queue_reqs{m="x"} 1\nsglang:token_usage{m="x"} 0.25\n'
    assert node.gauges(parse(sglang), None, 10) == {
        "requests_running": 3.0, "requests_waiting": 1.0, "kv_cache_percent": 25.0,
    }  # fmt: skip
    assert node.gauges(parse("jobs_running 2\n"), None, 10) == {"jobs_running": 2.0}


def test_missing_metrics_are_not_published() -> None:
    assert node.gauges(parse("some_other_metric 4\n<html>\n"), None, 10) == {}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.floats(0.01, 1))
def test_a_quantile_lies_within_the_buckets(counts: list[int], share: float) -> None:
    total, new = 0.0, {}
    for i, count in enumerate(counts):
        total += count
        new[float(i + 1)] = total
    new[float("inf")] = total
    quantile = node.quantile(new, {}, share)
    assert quantile is None if total == 0 else 0 <= quantile <= len(counts)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert node.quantile({1.0: 0.0, float("inf"): 5.0}, {}, 0.95) == 1.0


# --- requests that miss the SLO ------------------------------------------------------------------------------------

ENGINES = {
    "vllm": ("time_to_first_token_seconds", "request_time_per_output_token_seconds", "request_prompt_tokens"),
    "sglang": ("time_to_first_token_seconds", "request_time_per_output_token_seconds", "prompt_tokens_histogram"),
}


Samples = dict[str, list[MetricSample]]


def histogram(name: str, bounds: Sequence[float], values: Sequence[float]) -> str:
    """Return a Prometheus histogram of the values: each bucket counts those up to its bound."""
    counts = np.searchsorted(np.sort(values), bounds, side="right")
    lines = [f'{name}_bucket{{le="{bound}"}} {count}' for bound, count in zip(bounds, counts, strict=True)]
    lines += [f'{name}_bucket{{le="+Inf"}} {len(values)}', f"{name}_sum {sum(values)}", f"{name}_count {len(values)}"]
    return "\n".join(lines) + "\n"


def latencies(
    ttft: Sequence[float], tpot: Sequence[float], prompts: Sequence[float] = (), engine: str = "vllm"
) -> Samples:
    """Return what an engine's page says of its first tokens, and of the requests that ended."""
    names = [f"{engine}:{name}" for name in ENGINES[engine]]
    return parse(
        histogram(names[0], (0.5, 1.0, 2.5), ttft)
        + histogram(names[1], (0.05, 0.1), tpot)
        + (histogram(names[2], (1000.0,), prompts) if prompts else "")
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_late_requests_are_counted_beside_those_that_ended(engine: str) -> None:
    """Since the last scrape four requests ended, two of them too slowly; one first token of two came late."""
    slo = [1.0, 0.0, 0.1]
    before = latencies([0.4, 3.0], [0.01, 0.3], engine=engine)
    after = latencies([0.4, 3.0, 0.4, 3.0], [0.01, 0.3, 0.01, 0.04, 0.3, 0.3], engine=engine)
    assert node.misses(after, before, slo) == {"judged_requests": 4.0, "late_requests": 2.0}
    assert node.misses(after, after, slo) == {"judged_requests": 0.0, "late_requests": 0.0}


def test_a_request_late_by_both_limits_counts_once() -> None:
    slo = [1.0, 0.0, 0.1]
    before = latencies([], [])
    assert node.misses(latencies([3.0], [0.3]), before, slo)["late_requests"] == 1.0
    assert node.misses(latencies([3.0, 3.0], [0.3]), before, slo)["late_requests"] == 2.0


def test_a_longer_prompt_may_wait_longer() -> None:
    """1 s, and 0.5 s more for each 1000 tokens: 2.5 s for a prompt of 3000 tokens, 2 s for 2000."""
    slo = [1.0, 0.5, 0.1]
    nothing = latencies([], [], prompts=[3000.0])
    long = latencies([2.0, 3.0], [0.01, 0.01], prompts=[3000.0, 3000.0])
    assert node.misses(long, nothing, slo)["late_requests"] == 1.0
    # No request has ended since: the mean of all prompts so far stands in.
    assert node.misses(latencies([2.0, 3.0, 3.0], [0.01, 0.01], prompts=[3000.0, 3000.0]), long, slo) == {
        "judged_requests": 0.0,
        "late_requests": 1.0,
    }
    short = latencies([3.0], [0.01, 0.01], prompts=[3000.0, 1000.0])
    assert node.misses(short, nothing, slo)["late_requests"] == 1.0


def test_without_the_limits_or_the_histograms_nothing_is_published() -> None:
    """Gaps between tokens are no substitute for each request's mean: one prompt read in between makes a long gap."""
    whole = latencies([0.4], [0.01])
    slo = []
    assert node.misses(whole, {}, slo) == {}
    slo = [1.0, 0.0, 0.1]
    assert node.misses(whole, {}, slo) == {"judged_requests": 1.0, "late_requests": 0.0}
    first = histogram("vllm:time_to_first_token_seconds", (1.0,), [0.4])
    for name in ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"):
        page = parse(first + histogram(name, (0.1,), [0.3]))
        assert node.misses(page, parse(first), slo) == {}
    slo = [1.0, 0.5, 0.1]
    assert node.misses(whole, {}, slo) == {}, "the length of the prompts is not known"


def test_a_restarted_engine_has_no_late_requests() -> None:
    slo = [1.0, 0.0, 0.1]
    one, two = latencies([0.4], [0.01]), latencies([0.4, 0.4], [0.01, 0.01])
    assert node.misses(one, two, slo) == {}
    assert node.misses(latencies([0.4], [0.01, 0.01, 0.01]), two, slo) == {}


def test_a_bucket_that_holds_the_limit_is_split_as_the_histogram_falls_off() -> None:
    """Of all so far 100 are above 1 s and 1 above 2.5 s, so 4.64 above 2 s: 3.64 of the 99 between. Linear, it would be
    33. Of the ten that are new in that bucket 0.368 are late."""
    new = {1.0: 900.0, 2.5: 999.0, float("inf"): 1000.0}
    old = {1.0: 900.0, 2.5: 989.0, float("inf"): 990.0}
    assert node.beyond(new, {}, 2.0) == pytest.approx(4.64, abs=0.01)
    assert node.beyond(new, old, 2.0) == pytest.approx(0.368, abs=0.001)


@given(
    st.lists(st.floats(0.001, 9.0), max_size=40), st.lists(st.floats(0.001, 9.0), max_size=10), st.floats(0.01, 12.0)
)
def test_the_late_are_never_more_than_came_nor_fewer_than_the_buckets_prove(
    before: list[float], since: list[float], limit: float
) -> None:
    def page(values: list[float]) -> dict[float, float]:
        parsed = parse(histogram("x", bounds, values))
        return node.buckets(parsed, "x")

    bounds = (0.5, 1.0, 2.5, 5.0)
    late = node.beyond(page(before + since), page(before), limit)
    upper = min(bound for bound in (*bounds, float("inf")) if bound >= limit)
    lower = max(bound for bound in (0.0, *bounds) if bound < limit)
    assert sum(value > upper for value in since) <= late + 1e-9
    assert late <= sum(value > lower for value in since) + 1e-9
    for bound in bounds:
        assert node.beyond(page(before + since), page(before), bound) == pytest.approx(sum(v > bound for v in since))


def test_what_the_node_counts_is_what_the_requests_suffered() -> None:
    """An engine at 0.2 %, 3 % and 34 % of misses, scraped every 10 s through vLLM's buckets, against its requests."""
    slo = Slo(ttft_seconds=2, ttft_seconds_per_1000_input_tokens=1, tpot_seconds=0.1)
    limits = [2.0, 1.0, 0.1]
    random = np.random.default_rng(1)
    for rps, least in ((1.0, 0.001), (1.2, 0.02), (1.5, 0.3)):
        n = random.poisson(rps * 1200)
        at = np.sort(random.uniform(0, 1200, n))
        prompts, answers = random.lognormal(6.7, 0.8, n).round() + 1, random.lognormal(5.0, 0.6, n).round() + 1
        engine = Engine(0.01, 1 / 5000, 0.02, 0.0015, 200_000, 64)
        simulation = Simulation([engine], slo=slo, options=SimulationOptions(keep_requests=True))
        simulation.join(0)
        simulation.run(2400, at, prompts, answers)
        log = simulation.requests()
        missed = 1 - (simulation.window().total.slo_attainment or 0)
        ttft, tpot = log.first_token_at - at, (log.finished_at - log.first_token_at) / np.maximum(answers - 1, 1)
        old, judged, late = parse(""), 0.0, 0.0
        for now in range(10, 2400, 10):
            ended = log.finished_at <= now
            page = histogram("vllm:time_to_first_token_seconds", TTFT_BUCKETS, ttft[log.first_token_at <= now].tolist())
            page += histogram("vllm:request_time_per_output_token_seconds", TPOT_BUCKETS, tpot[ended].tolist())
            page += histogram("vllm:request_prompt_tokens", (1000.0,), prompts[ended].tolist())
            new = parse(page)
            counted = node.misses(new, old, limits)
            judged, late = judged + counted.get("judged_requests", 0.0), late + counted.get("late_requests", 0.0)
            old = new
        assert judged == n
        assert missed > least
        assert late / judged == pytest.approx(missed, rel=0.02)


TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    *(160.0, 640.0, 2560.0),
)
TPOT_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
"""Of vLLM: https://github.com/vllm-project/vllm/blob/main/vllm/v1/metrics/loggers.py"""


def test_the_round_trip_is_the_mean_of_the_connections() -> None:
    output = "0 0 10.0.1.5:8000 10.0.128.9:4242\n\t cubic rto:204 rtt:0.8/0.2 mss:1448\n\t cubic rtt:1.2/0.1 ato:40\n"
    assert round_trip_seconds(output) == pytest.approx(0.001)
    assert round_trip_seconds("") is None


# --- what is not known ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "x"])
def test_a_gauge_of_which_a_series_is_unknown_is_unknown(value: str) -> None:
    page = parse(
        f'vllm:num_requests_running{{engine="0"}} 7\nvllm:num_requests_running{{engine="1"}} {value}\n'
        f"vllm:num_requests_waiting 2\nvllm:kv_cache_usage_perc {value}\n"
    )
    assert node.gauges(page, None, 10) == {"requests_waiting": 2.0}
    assert node.in_hand(page) is None


def test_counters_that_are_unknown_give_no_rates() -> None:
    page = FIRST.replace('latency_seconds_count{engine="0"} 10.0', 'latency_seconds_count{engine="0"} NaN')
    page = page.replace('prompt_tokens_sum{engine="0"} 1000.0', 'prompt_tokens_sum{engine="0"} NaN')
    page = page.replace('le="+Inf"} 10.0', 'le="+Inf"} NaN')
    for new, old in ((page, FIRST), (SECOND, page), (page, page)):
        found = node.gauges(parse(new), parse(old), 10)
        assert not {"finished_rps", "input_tokens"} & found.keys()
    assert "ttft_p95_seconds" not in node.gauges(parse(page), parse(FIRST), 10)


def test_a_label_that_only_ends_as_a_bound_is_none() -> None:
    """It ended the metrics process: `profile="x"` was taken for the bound."""
    new = 'vllm:time_to_first_token_seconds_bucket{profile="x",le="1.0"} 4\n'
    new += 'vllm:time_to_first_token_seconds_bucket{profile="x",le="+Inf"} 4\n'
    assert node.gauges(parse(new), parse(""), 10)["ttft_p95_seconds"] == pytest.approx(0.95)


@pytest.mark.parametrize("labels", ["", '{le="high"}', '{le="NaN"}'])
def test_a_histogram_with_a_bucket_without_a_bound_is_unknown(labels: str) -> None:
    page = parse(f"vllm:time_to_first_token_seconds_bucket{labels} 4\n" + FIRST)
    assert node.buckets(page, "vllm:time_to_first_token_seconds") == {}
