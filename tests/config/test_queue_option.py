"""Which images are known to bound their engine's queue."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_fleet.config.queue_option import QueueOption, as_served, bounded, has_argument, queue_option
from gpu_fleet.config.settings import Container
from gpu_fleet.scaling.queue_limit import max_queued_requests, max_queued_tokens
from gpu_fleet.scaling.service import Alternative
from tests.scaling.builders import policy, pool


@pytest.mark.parametrize(
    ("image", "option"),
    [
        ("vllm/vllm-openai:v0.29.0", QueueOption.VLLM),
        ("docker.io/vllm/vllm-openai:v0.29.0-x86_64-cu129", QueueOption.VLLM),
        (f"vllm/vllm-openai:v0.30.1@sha256:{'0' * 64}", QueueOption.VLLM),
        ("vllm/vllm-openai:v1.0", QueueOption.VLLM),
        ("vllm/vllm-openai:v1", QueueOption.VLLM),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/docker-hub/vllm/vllm-openai:v0.29.0", QueueOption.VLLM),
        ("vllm/vllm-openai:v0.28.0", None),
        ("vllm/vllm-openai:v0.11.0", None),
        ("lmsysorg/sglang:v0.5.20", QueueOption.SGLANG),
        ("lmsysorg/sglang:v0.5.0rc2-cu126", QueueOption.SGLANG),
        ("lmsysorg/sglang:v0.4.10.post2-cu126", None),
        # What the image does not tell is not guessed: an engine ends at an option that it does not know.
        ("vllm/vllm-openai:latest", None),
        ("vllm/vllm-openai:nightly-0123456789abcdef", None),
        ("vllm/vllm-openai", None),
        (f"vllm/vllm-openai@sha256:{'0' * 64}", None),
        ("my-vllm/vllm-openai:v0.29.0", None),
        ("localhost:5000/vllm/vllm-openai", None),
        ("ghcr.io/huggingface/text-generation-inference:3.3.5", None),
        ("", None),
    ],
)
def test_the_tag_tells_whether_an_engine_has_the_option(image: str, option: QueueOption | None) -> None:
    assert queue_option(image) is option


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
    assert has_argument(args, QueueOption.VLLM) is given


def container(image: str, *args: str) -> Container:
    return Container(image=image, args=args)


SPEED = {
    "prefill_tokens_per_second": 8000,
    "decode_base_seconds": 0.02,
    "decode_seconds_per_sequence": 0.0006,
    "kv_cache_tokens": 200_000,
}
REFUSE = {"refuse": True}
VLLM, SGLANG = "vllm/vllm-openai:v0.29.0", "lmsysorg/sglang:v0.5.20"


def test_each_pools_engines_get_the_bound_of_their_type() -> None:
    ours, slow, fast = policy(overload=REFUSE), pool(speed=SPEED), pool(speed={**SPEED, "kv_cache_tokens": 400_000})
    slow_args, fast_args = (bounded(container(VLLM, "--model", "m"), ours, one).args for one in (slow, fast))
    assert slow.speed is not None
    tokens = max_queued_tokens(ours, slow.speed)
    assert slow_args == ("--model", "m", "--max-num-queued-tokens", str(tokens))
    assert int(fast_args[-1]) > int(slow_args[-1])


def test_vllm_counts_over_all_copies_and_sglang_for_each() -> None:
    ours, one, four = policy(overload=REFUSE), pool(speed=SPEED), pool(speed=SPEED, copies=4)
    assert one.speed is not None
    tokens, requests = max_queued_tokens(ours, one.speed), max_queued_requests(ours, one.speed)
    assert tokens is not None
    assert bounded(container(VLLM), ours, four).args[-1] == str(4 * tokens)
    assert bounded(container(SGLANG), ours, four).args == ("--max-queued-requests", str(requests))


def test_where_types_change_in_place_the_fastest_counts() -> None:
    ours = policy(overload=REFUSE)
    fast = pool(speed={**SPEED, "kv_cache_tokens": 400_000})
    other = {name: getattr(fast, name) for name in Alternative.model_fields}
    both = pool(speed=SPEED, alternatives=(other,))
    assert bounded(container(VLLM), ours, both) == bounded(container(VLLM), ours, fast)


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        (container("vllm/vllm-openai:v0.11.0"), {}),
        (container(VLLM, "--max-num-queued-tokens", "9k"), {}),
        (container(VLLM), {"overload": {"refuse": False}}),
        (container(VLLM), {"slo": None}),
        (container(VLLM), {"workload": "training"}),
    ],
    ids=["an engine without the option", "the user's own", "refuse: false", "no SLO", "training"],
)
def test_else_the_arguments_stay_the_users(given: Container, changes: dict[str, Any]) -> None:
    assert bounded(given, policy(**{"overload": REFUSE, **changes}), pool(speed=SPEED)) == given


def test_a_pool_without_a_profile_has_no_bound() -> None:
    assert bounded(container(VLLM), policy(overload=REFUSE), pool()) == container(VLLM)


def test_a_policy_refuses_only_with_an_engine_that_can() -> None:
    ours = policy(overload=REFUSE | {"max_wait_seconds": 5})
    assert as_served(ours, "vllm/vllm-openai:v0.29.0") == ours
    unable = as_served(ours, "vllm/vllm-openai:v0.11.0")
    assert (unable.overload.refuse, unable.overload.max_wait_seconds) == (False, 5)
    assert unable.model_copy(update={"overload": ours.overload}) == ours
