"""How much may wait in an engine until what comes on top is refused."""

from __future__ import annotations

import pytest

from gpu_fleet.scaling.profile import Speed
from gpu_fleet.scaling.queue_limit import max_queued_requests, max_queued_tokens, max_wait_seconds
from tests.scaling.builders import policy

REFUSE = {"refuse": True}
REQUEST = {"input_tokens": 1000, "output_tokens": 100}
SPEED = Speed(
    prefill_base_seconds=0.05,
    prefill_tokens_per_second=5000,
    decode_base_seconds=0.02,
    decode_seconds_per_sequence=0.0005,
    kv_cache_tokens=42_000,
)
"""1000 tokens are read in 0.25 s. Memory holds 40 requests of 1050 tokens on average, whose steps take 0.04 s: each
completes in 100 steps and its share of 40 prefills, 14 s, so 40 / 14 a second."""
COMPLETED_RPS = 40 / 14


def test_a_full_instance_admits_what_may_wait_within_the_time_to_first_token() -> None:
    ours = policy(request=REQUEST, slo={"ttft_seconds": 3.25, "tpot_seconds": 0.1}, overload=REFUSE)
    assert max_wait_seconds(ours, SPEED) == pytest.approx(3.0)
    assert max_queued_tokens(ours, SPEED) == round(3 * COMPLETED_RPS * 1000) == 8571
    assert max_queued_requests(ours, SPEED) == 8


def test_a_long_prompt_may_wait_for_longer_where_the_slo_says_so() -> None:
    """4000 tokens are read in 0.85 s, and their limit is 7.25 s."""
    slo = {"ttft_seconds": 3.25, "ttft_seconds_per_1000_input_tokens": 1, "tpot_seconds": 0.1}
    assert max_wait_seconds(policy(request=REQUEST, slo=slo, overload=REFUSE), SPEED) == pytest.approx(6.4)


def test_a_wait_of_the_policys_own_needs_no_slo() -> None:
    ours = policy(request=REQUEST, slo=None, overload=REFUSE | {"max_wait_seconds": 14})
    assert max_queued_tokens(ours, SPEED) == 40_000
    assert max_queued_requests(ours, SPEED) == 40


def test_one_request_may_always_wait() -> None:
    ours = policy(request=REQUEST, overload=REFUSE | {"max_wait_seconds": 0.0001})
    assert (max_queued_tokens(ours, SPEED), max_queued_requests(ours, SPEED)) == (1, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"slo": None},
        {"slo": {"ttft_seconds": 0.2, "tpot_seconds": 0.1}},
        {"overload": {"refuse": False}},
        {"overload": {"refuse": False, "max_wait_seconds": 5}},
        {"workload": "training"},
    ],
    ids=["no SLO", "reading alone is too slow", "refuse: false", "refuse: false and a wait", "training"],
)
def test_else_any_number_waits(changes: dict[str, object]) -> None:
    ours = policy(**{"request": REQUEST, "overload": REFUSE, **changes})
    assert max_wait_seconds(ours, SPEED) is None
    assert max_queued_tokens(ours, SPEED) is None
    assert max_queued_requests(ours, SPEED) is None
