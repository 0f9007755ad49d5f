"""How the engines of a pool get the bounds of their queues."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_fleet.config.engines import QueueOption
from gpu_fleet.config.queue_options import as_served, bounded, counted, has_argument
from gpu_fleet.config.settings import Container
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.queue_limit import QueueLimit, queue_limit
from gpu_fleet.scaling.service import Alternative
from tests.scaling.builders import policy, pool


@pytest.mark.parametrize(
    ("args", "given"),
    [
        (["--max-num-queued-tokens", "32k"], True),
        (["--max-num-queued-tokens=32000"], True),
        (["--max_num_queued_tokens", "32000"], True),
        (["--max-num-queued-reqs", "300"], False),
        (["--model", "max-num-queued-tokens"], False),
        ([], False),
    ],
)
def test_the_users_own_option_is_recognised(args: list[str], given: bool) -> None:
    assert has_argument(args, QueueOption.VLLM_TOKENS) is given


def container(image: str, *args: str) -> Container:
    return Container(image=image, args=args)


SPEED = {
    "prefill_tokens_per_second": 8000,
    "decode_base_seconds": 0.02,
    "decode_seconds_per_sequence": 0.0006,
    "kv_cache_tokens": 200_000,
}
VLLM, SGLANG = "vllm/vllm-openai:v0.29.0", "lmsysorg/sglang:v0.5.20"
REQUESTS, TOKENS, WAITING = QueueOption


def limit_of(ours: Policy, one: Alternative) -> tuple[int, int, int]:
    """Return the numbers of requests, of those that wait, and of tokens."""
    assert one.speed is not None
    limit = queue_limit(ours, one.speed)
    assert limit.requests is not None
    assert limit.waiting is not None
    assert limit.prompt_tokens is not None
    return limit.requests, limit.waiting, limit.prompt_tokens


def test_each_pools_engines_get_the_bounds_of_their_type() -> None:
    ours, slow, fast = policy(), pool(speed=SPEED), pool(speed={**SPEED, "kv_cache_tokens": 400_000})
    slow_args, fast_args = (bounded(container(VLLM, "--model", "m"), ours, one).args for one in (slow, fast))
    requests, _, tokens = limit_of(ours, slow)
    assert slow_args == (
        *("--model", "m"),
        *("--max-num-queued-reqs", str(requests)),
        *("--max-num-queued-tokens", str(tokens)),
    )
    # As fast at reading, but with more slots.
    assert int(fast_args[3]) > requests
    assert fast_args[5] == str(tokens)


def test_vllm_counts_over_all_copies_and_sglang_for_each() -> None:
    ours, four = policy(), pool(speed=SPEED, copies=4)
    requests, waiting, tokens = limit_of(ours, pool(speed=SPEED))
    assert bounded(container(VLLM), ours, four).args[1::2] == (str(4 * requests), str(4 * tokens))
    assert bounded(container(SGLANG), ours, four).args == ("--max-queued-requests", str(waiting))


def test_where_types_change_in_place_the_fastest_counts() -> None:
    ours = policy()
    fast = pool(speed={**SPEED, "kv_cache_tokens": 400_000})
    other = {name: getattr(fast, name) for name in Alternative.model_fields}
    both = pool(speed=SPEED, alternatives=(other,))
    assert bounded(container(VLLM), ours, both) == bounded(container(VLLM), ours, fast)


def test_where_one_of_the_types_has_no_bound_none_is_set() -> None:
    """Reading alone is too slow for the SLO there: no bound keeps it, and a low one would refuse all the others."""
    ours = policy(slo={"ttft_seconds": 1, "tpot_seconds": 0.1})
    slow = pool(speed={**SPEED, "prefill_tokens_per_second": 100})
    other = {name: getattr(slow, name) for name in Alternative.model_fields}
    assert bounded(container(VLLM), ours, pool(speed=SPEED, alternatives=(other,))) == container(VLLM)


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        (container("vllm/vllm-openai:v0.11.0"), {}),
        (container(VLLM, "--max-num-queued-tokens", "9k"), {}),
        (container(VLLM, "--max-num-queued-reqs=300"), {}),
        (container(VLLM), {"overload": {"refuse": False}}),
        (container(VLLM), {"slo": None}),
        (container(VLLM), {"workload": "training"}),
    ],
    ids=["an engine without the options", "the user's tokens", "the user's requests", "refuse: false", "no SLO",
         "training"],
)  # fmt: skip
def test_else_the_arguments_stay_the_users(given: Container, changes: dict[str, Any]) -> None:
    assert bounded(given, policy(**changes), pool(speed=SPEED)) == given


def test_a_pool_without_a_profile_has_no_bound() -> None:
    assert bounded(container(VLLM), policy(), pool()) == container(VLLM)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ((REQUESTS, TOKENS), QueueLimit(requests=48, prompt_tokens=12_000)),
        ((WAITING,), QueueLimit(waiting=8)),
        ((), QueueLimit()),
    ],
)
def test_an_engine_keeps_what_it_counts(options: tuple[QueueOption, ...], kept: QueueLimit) -> None:
    assert counted(QueueLimit(requests=48, waiting=8, prompt_tokens=12_000), options) == kept


def test_a_policy_refuses_only_with_an_engine_that_can() -> None:
    ours = policy(overload={"max_wait_seconds": 5})
    assert as_served(ours, "vllm/vllm-openai:v0.29.0") == ours
    unable = as_served(ours, "vllm/vllm-openai:v0.11.0")
    assert unable.overload.refuse is False
    assert unable.model_copy(update={"overload": ours.overload}) == ours
    # The scaler reads it with the same checks as a user's file.
    assert Policy.model_validate_json(unable.model_dump_json()) == unable
