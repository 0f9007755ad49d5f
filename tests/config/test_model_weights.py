"""Where weights are in S3, and what engines are told."""

from __future__ import annotations

import pytest

from gpu_fleet.config import model_weights, naming
from gpu_fleet.config.settings import Container, PoolSettings, ServiceSettings, Weights, WeightsLoad

URI = "s3://bucket/chat/"
VLLM, SGLANG, TGI = (
    "vllm/vllm-openai:v0.29.0",
    "lmsysorg/sglang:v0.5.5",
    "ghcr.io/huggingface/text-generation-inference:3",
)


def args_of(image: str, *args: str, load: str = "copy") -> list[str]:
    container = Container(image=image, args=args)
    return list(model_weights.served(container, Weights(load=WeightsLoad(load)), URI).args)


@pytest.mark.parametrize(
    ("image", "given", "served"),
    [
        (VLLM, ["--model", "a/b", "--x"], ["--model", "/weights", "--x", "--served-model-name", "a/b"]),
        (VLLM, ["--model=a/b"], ["--model=/weights", "--served-model-name", "a/b"]),
        (VLLM, ["a/b", "--x"], ["/weights", "--x", "--served-model-name", "a/b"]),
        (VLLM, ["--model", "a/b", "--served-model-name", "c"], ["--model", "/weights", "--served-model-name", "c"]),
        (VLLM, ["--model", "a/b", "--served_model_name=c"], ["--model", "/weights", "--served_model_name=c"]),
        (SGLANG, ["--model-path", "a/b"], ["--model-path", "/weights", "--served-model-name", "a/b"]),
        (TGI, ["--model-id", "a/b", "--port", "8000"], ["--model-id", "/weights", "--port", "8000"]),
        ("own/engine:1", ["--model", "a/b"], ["--model", "a/b"]),
    ],
)
def test_copied_weights_are_served_under_the_models_name(image: str, given: list[str], served: list[str]) -> None:
    assert args_of(image, *given) == served


def test_an_engine_behind_a_registry_of_ones_own_is_known() -> None:
    assert args_of(f"123456789012.dkr.ecr.us-east-1.amazonaws.com/hub/{VLLM}@sha256:ab", "a/b")[0] == "/weights"


def test_streamed_weights_have_the_streamer() -> None:
    streamed = ["--model", URI, "--served-model-name", "a/b", "--load-format", "runai_streamer"]
    assert args_of(VLLM, "--model", "a/b", load="stream") == streamed
    sharded = ["--load-format", "runai_streamer_sharded"]
    assert args_of(VLLM, "--model", "a/b", *sharded, load="stream") == [
        "--model",
        URI,
        *sharded,
        "--served-model-name",
        "a/b",
    ]


def service(**given: str) -> ServiceSettings:
    return ServiceSettings.model_validate(
        {
            "policy": "chat",
            "container": Container(image=VLLM),
            "boot": {"weights": given},
            "pools": {"l4": PoolSettings(types=("g6.xlarge",), min=0, max=1)},
        }
    )


def test_weights_are_in_the_stacks_bucket_under_the_services_name_unless_given() -> None:
    place = model_weights.place("gpu-fleet", "prod", "123456789012", "chat", service())
    assert place is not None
    assert place.uri == "s3://gpu-fleet-prod-weights-123456789012/chat/"
    given = model_weights.place("gpu-fleet", "prod", "123456789012", "chat", service(bucket="mine", prefix="a/b"))
    assert given is not None
    assert given.uri == "s3://mine/a/b/"


def test_a_long_stacks_bucket_fits_and_is_its_own() -> None:
    one, two = (naming.weights_bucket("gpu-fleet", f"{'x' * 40}{end}", "123456789012") for end in "ab")
    assert one != two
    assert max(len(one), len(two)) <= naming.MAX_BUCKET_NAME
