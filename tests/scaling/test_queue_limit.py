"""How much an engine may hold until what comes on top is refused."""

from __future__ import annotations

import pytest

from gpu_fleet.scaling.profile import Speed
from gpu_fleet.scaling.queue_limit import UNLIMITED, QueueLimit, max_wait_seconds, queue_limit
from tests.scaling.builders import policy

REQUEST = {"input_tokens": 1000, "output_tokens": 100}
SPEED = Speed(
    prefill_base_seconds=0.05,
    prefill_tokens_per_second=5000,
    decode_base_seconds=0.02,
    decode_seconds_per_sequence=0.0005,
    kv_cache_tokens=42_000,
)
"""1000 tokens are read in 0.25 s, so 4000 a second. Memory holds 40 requests of 1050 tokens on average, whose steps
take 0.04 s: each completes in 100 steps and its share of 40 prefills, 14 s, so 40 / 14 = 2.86 a second."""


def test_a_full_instance_admits_what_may_wait_within_the_time_to_first_token() -> None:
    """In 3 s 8.6 requests are completed, beside the 40 in service, and 12000 tokens are read, after a long prompt."""
    ours = policy(request=REQUEST, slo={"ttft_seconds": 3.25, "tpot_seconds": 0.1})
    assert max_wait_seconds(ours, SPEED, 1000) == pytest.approx(3.0)
    assert queue_limit(ours, SPEED) == QueueLimit(requests=48, waiting=8, prompt_tokens=16_000)


def test_prompts_may_be_read_for_longer_where_the_slo_gives_long_ones_time() -> None:
    """A typical prompt may wait 4 s for a slot: 11.4 requests. 4000 tokens are read in 0.85 s, and have 7.25 s."""
    slo = {"ttft_seconds": 3.25, "ttft_seconds_per_1000_input_tokens": 1, "tpot_seconds": 0.1}
    ours = policy(request=REQUEST, slo=slo)
    assert max_wait_seconds(ours, SPEED, 4000) == pytest.approx(6.4)
    assert queue_limit(ours, SPEED) == QueueLimit(requests=51, waiting=11, prompt_tokens=25_600 + 4000)


def test_the_engines_own_limit_on_the_batch_counts_as_slots() -> None:
    """10 in service complete 10 / (100 x 0.025 + 10 x 0.25) = 2 a second."""
    ours = policy(request=REQUEST, slo={"ttft_seconds": 3.25, "tpot_seconds": 0.1})
    assert queue_limit(ours, SPEED.model_copy(update={"max_sequences": 10})).requests == 16


def test_a_wait_of_the_policys_own_needs_no_slo() -> None:
    ours = policy(request=REQUEST, slo=None, overload={"max_wait_seconds": 14.1})
    assert queue_limit(ours, SPEED) == QueueLimit(requests=80, waiting=40, prompt_tokens=60_400)


def test_one_request_may_always_wait() -> None:
    ours = policy(request=REQUEST, overload={"max_wait_seconds": 0.0001})
    assert queue_limit(ours, SPEED) == QueueLimit(requests=41, waiting=1, prompt_tokens=4000)


@pytest.mark.parametrize(
    "changes",
    [
        {"slo": None},
        {"slo": {"ttft_seconds": 0.2, "tpot_seconds": 0.1}},
        {"overload": {"refuse": False}},
        {"workload": "training"},
    ],
    ids=["no SLO", "reading alone is too slow", "refuse: false", "training"],
)
def test_else_any_number_waits(changes: dict[str, object]) -> None:
    ours = policy(**{"request": REQUEST, **changes})
    assert max_wait_seconds(ours, SPEED, 1000) is None
    assert queue_limit(ours, SPEED) == UNLIMITED
