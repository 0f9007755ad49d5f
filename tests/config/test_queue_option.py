"""Which images are known to bound their engine's queue."""

from __future__ import annotations

import pytest

from gpu_fleet.config.queue_option import QueueOption, as_served, has_argument, queue_option
from tests.scaling.builders import policy


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


def test_a_policy_refuses_only_with_an_engine_that_can() -> None:
    ours = policy(overload={"max_wait_seconds": 5})
    assert as_served(ours, "vllm/vllm-openai:v0.29.0") == ours
    unable = as_served(ours, "vllm/vllm-openai:v0.11.0")
    assert (unable.overload.refuse, unable.overload.max_wait_seconds) == (False, 5)
    assert unable.model_copy(update={"overload": ours.overload}) == ours
