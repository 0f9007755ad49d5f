"""Each engine, by a page that it publishes. The pages name their sources."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gpu_fleet.config import engines
from infra.instance.node import gauges
from infra.instance.node.engine_metrics import ENGINES, MetricSelector
from infra.instance.node.exposition import parse

PAGES = Path(__file__).parent / "expositions"

SEEN = {
    "vllm": {
        "requests_running": 12, "requests_waiting": 3, "kv_cache_percent": 43.75, "input_tokens": 1155,
        "output_tokens": 211, "finished_rps": 10, "ttft_p95_seconds": pytest.approx(0.743, abs=0.001),
        "judged_requests": 100, "late_requests": 2,
    },
    "sglang": {
        "requests_running": 162, "requests_waiting": 2826, "kv_cache_percent": pytest.approx(28),
        "finished_rps": 1122.8,
        "input_tokens": pytest.approx(724, abs=1), "output_tokens": pytest.approx(673.1, abs=1),
        "ttft_p95_seconds": 30,
    },
    "tgi": {
        "requests_running": 2, "requests_waiting": 1, "input_tokens": 1155, "output_tokens": 211, "finished_rps": 5,
    },
    "triton": {
        "requests_running": 8, "requests_waiting": 2, "kv_cache_percent": 25, "input_tokens": 500,
        "output_tokens": 200, "finished_rps": 4.1,
    },
    "llama-cpp": {"requests_running": 4, "requests_waiting": 7},
    "worker": {"jobs_running": 1, "job_remaining_seconds": 840, "job_seconds": 1802.5},
}  # fmt: skip
"""What is published of a page, 10 s after the same page with every counter at zero."""


def page(name: str) -> str:
    return (PAGES / f"{name}.prom").read_text()


def at_zero(text: str) -> str:
    return "\n".join(line if line.startswith("#") else line.rpartition(" ")[0] + " 0" for line in text.split("\n"))


@pytest.mark.parametrize("name", SEEN)
def test_the_page_of_each_engine_is_understood(name: str) -> None:
    new, old = parse(page(name)), parse(at_zero(page(name)))
    assert gauges.gauges(new, old, 10, [2.0, 0.0, 0.1]) == SEEN[name]


@pytest.mark.parametrize("name", SEEN)
def test_no_page_has_names_of_two_engines(name: str) -> None:
    shown = parse(page(name))
    found = {e.name for e in ENGINES for selectors in e.gauges.values() for s in selectors if s.of(shown)}
    assert found == {name.replace("-cpp", ".cpp")}


@pytest.mark.parametrize("name", SEEN)
def test_each_metric_of_an_engine_is_on_its_page(name: str) -> None:
    """All but the names of other versions, which stand second, and those that an entry says come and go."""
    engine = next(e for e in ENGINES if e.name == name.replace("-cpp", ".cpp"))
    shown = parse(page(name))
    optional = {
        "sglang:request_time_per_output_token_seconds", "llamacpp:kv_cache_usage_ratio", "requests_running",
        "requests_waiting", "requests_finished_total",
    }  # fmt: skip
    selectors = [*engine.finished, *engine.progress]
    for kind in (engine.gauges, engine.shares):
        selectors += [alternatives[0] for alternatives in kind.values()]
    names = [*(base for bases in engine.means.values() for base in bases)]
    selectors += [MetricSelector(f"{base}_count") for base in (*names, *engine.ttft, *engine.tpot)]
    missing = {s.name.removesuffix("_count") for s in selectors if not s.of(shown)}
    assert missing - optional == set()


@pytest.mark.parametrize("name", [name for name in SEEN if name != "worker"])
def test_each_engine_shows_progress_while_it_generates(name: str) -> None:
    assert gauges.progress(parse(page(name))) is not None
    assert gauges.running(parse(page(name)))


def test_an_engine_that_says_nothing_before_its_first_request_is_idle() -> None:
    assert gauges.in_hand(parse(""), "tgi") == 0.0
    assert gauges.in_hand(parse(""), "") is None
    assert gauges.in_hand(parse(""), "vllm") is None
    assert gauges.in_hand(parse('tgi_batch_inference_count{method="prefill"} 3\n'), "tgi") is None
    assert gauges.in_hand(parse("tgi_queue_size 1\n"), "tgi") == 1.0


def test_both_tables_of_engines_have_the_same_names() -> None:
    """A worker of one's own has no image that we know."""
    assert [engine.name for engine in ENGINES] == [*(engine.name for engine in engines.ENGINES), "worker"]


def test_every_field_of_the_table_is_used_by_some_engine() -> None:
    for part in dataclasses.fields(ENGINES[0]):
        assert any(getattr(engine, part.name) for engine in ENGINES), part.name
