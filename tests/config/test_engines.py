"""What an image tells of its engine."""

from __future__ import annotations

import dataclasses

import pytest

from gpu_fleet.config.engines import ENGINES, QueueOption, ServingEngine, of_image, queue_options

VLLM = (QueueOption.VLLM_REQUESTS, QueueOption.VLLM_TOKENS)
SGLANG = (QueueOption.SGLANG_WAITING,)
DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("vllm/vllm-openai:v0.11.0", "vllm"),
        ("vllm/vllm-openai", "vllm"),
        ("docker.io/vllm/vllm-openai:v0.11.0", "vllm"),
        (f"vllm/vllm-openai@{DIGEST}", "vllm"),
        ("lmsysorg/sglang:v0.5.5-cu129", "sglang"),
        ("ghcr.io/huggingface/text-generation-inference:3.3.6", "tgi"),
        ("nvcr.io/nvidia/tritonserver:25.09-trtllm-python-py3", "triton"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda", "llama.cpp"),
        # A registry of one's own, such as a pull-through cache, has the same images.
        ("registry:5000/vllm/vllm-openai", "vllm"),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/docker-hub/lmsysorg/sglang:v0.5.5", "sglang"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/vllm-openai:1", None),
        ("my-vllm/vllm-openai:v0.29.0", None),
        ("my/vllm", None),
        ("", None),
    ],
)
def test_an_official_image_tells_its_engine(image: str, name: str | None) -> None:
    engine = of_image(image)
    assert (engine.name if engine else None) == name


@pytest.mark.parametrize(
    ("image", "options"),
    [
        ("vllm/vllm-openai:v0.29.0", VLLM),
        ("docker.io/vllm/vllm-openai:v0.29.0-x86_64-cu129", VLLM),
        (f"vllm/vllm-openai:v0.30.1@{DIGEST}", VLLM),
        ("vllm/vllm-openai:v1.0", VLLM),
        ("vllm/vllm-openai:v1", VLLM),
        ("registry:5000/vllm/vllm-openai:v0.29.0", VLLM),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/docker-hub/vllm/vllm-openai:v0.29.0", VLLM),
        ("vllm/vllm-openai:v0.28.0", ()),
        ("vllm/vllm-openai:v0.11.0", ()),
        ("lmsysorg/sglang:v0.5.20", SGLANG),
        ("lmsysorg/sglang:v0.5.0rc2-cu126", SGLANG),
        ("lmsysorg/sglang:v0.4.10.post2-cu126", ()),
        # What the image does not tell is not guessed: an engine ends at an option that it does not know.
        ("vllm/vllm-openai:latest", ()),
        ("vllm/vllm-openai:nightly-0123456789abcdef", ()),
        ("vllm/vllm-openai", ()),
        (f"vllm/vllm-openai@{DIGEST}", ()),
        ("my-vllm/vllm-openai:v0.29.0", ()),
        ("localhost:5000/vllm/vllm-openai", ()),
        ("ghcr.io/huggingface/text-generation-inference:3.3.5", ()),
        ("", ()),
    ],
)
def test_the_tag_tells_which_options_an_engine_has(image: str, options: tuple[QueueOption, ...]) -> None:
    assert queue_options(image) == options


@pytest.mark.parametrize("part", dataclasses.fields(ServingEngine), ids=lambda part: part.name)
def test_every_field_of_the_table_is_used_by_some_engine(part: dataclasses.Field[object]) -> None:
    values = {getattr(engine, part.name) for engine in ENGINES}
    assert values != {part.default}
