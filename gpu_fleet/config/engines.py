"""The serving engines that we know, by the container's image: how each is started and reached.

This is the only place that tells an engine from its image. What an engine publishes is known where it is read, on the
instance: `infra/instance/node/engine_metrics.py`, under the same names. SIGTERM ends each of them in order, whatever
signal its image would get.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_HEALTH_PATH = "/health"


class QueueOption(StrEnum):
    """An option that bounds an engine's queue; what is over gets 503."""

    VLLM_REQUESTS = "--max-num-queued-reqs"
    """Requests that wait or are in service, over all copies of the model."""
    VLLM_TOKENS = "--max-num-queued-tokens"
    """Prompt tokens of the requests that have no first token yet, over all copies of the model."""
    SGLANG_WAITING = "--max-queued-requests"
    """Requests that wait, for each copy."""


@dataclass(frozen=True, slots=True)
class ServingEngine:
    """One engine."""

    name: str
    repositories: tuple[str, ...]
    """Its official images, without registry and tag."""
    queue_options: tuple[QueueOption, ...] = ()
    queue_options_since: tuple[int, int] = (0, 0)
    """The version from which it has them. An engine ends at an option that it does not know."""
    keep_alive_variable: str | None = None
    """Environment variable: seconds for which an idle connection stays open."""
    health_path: str = DEFAULT_HEALTH_PATH
    metrics_port: int | None = None
    """Where it is not the port of requests."""
    metrics_flag: str | None = None
    """Without this argument it publishes nothing."""
    metrics_variable: str | None = None
    """Environment variable that does the same as the flag."""
    model_options: tuple[str, ...] = ()
    """Options that name the model, by an id of a hub or by a path."""
    model_may_be_first: bool = False
    """Whether the first argument may be the model, without an option."""
    served_name_option: str | None = None
    """The model's name in requests, which else is what the model option says; None: it serves any name."""
    streams_from_s3: bool = False
    """Whether it can read weights from S3 into the GPU."""


ENGINES = (
    # https://github.com/vllm-project/vllm/pull/49445: both options, from 0.29.
    # https://docs.vllm.ai/en/latest/configuration/env_vars.html: keep-alive is 5 s unless set.
    # https://docs.vllm.ai/en/latest/cli/serve.html, and for S3
    # https://docs.vllm.ai/en/stable/models/extensions/runai_model_streamer/ (its image has the streamer).
    ServingEngine(
        "vllm",
        repositories=("vllm/vllm-openai",),
        queue_options=(QueueOption.VLLM_REQUESTS, QueueOption.VLLM_TOKENS),
        queue_options_since=(0, 29),
        keep_alive_variable="VLLM_HTTP_TIMEOUT_KEEP_ALIVE",
        model_options=("--model",),
        model_may_be_first=True,
        served_name_option="--served-model-name",
        streams_from_s3=True,
    ),
    # https://github.com/sgl-project/sglang/pull/7565: merged in July 2025, so in every 0.5.
    # https://github.com/sgl-project/sglang/blob/main/python/sglang/srt/environ.py: keep-alive is 5 s unless set.
    # https://docs.sglang.ai/advanced_features/server_arguments.html
    ServingEngine(
        "sglang",
        repositories=("lmsysorg/sglang",),
        queue_options=(QueueOption.SGLANG_WAITING,),
        queue_options_since=(0, 5),
        keep_alive_variable="SGLANG_TIMEOUT_KEEP_ALIVE",
        metrics_flag="--enable-metrics",
        model_options=("--model-path", "--model"),
        served_name_option="--served-model-name",
    ),
    # It keeps idle connections open. https://huggingface.co/docs/text-generation-inference/reference/launcher
    ServingEngine("tgi", repositories=("huggingface/text-generation-inference",), model_options=("--model-id",)),
    # https://github.com/triton-inference-server/server/blob/main/docs/user_guide/metrics.md
    ServingEngine(
        "triton",
        repositories=("nvidia/tritonserver",),
        health_path="/v2/health/ready",
        metrics_port=8002,
    ),
    # https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
    # It closes idle connections after 5 s, and no option changes that (vendor/cpp-httplib/httplib.h).
    ServingEngine(
        "llama.cpp",
        repositories=("ggml-org/llama.cpp", "ggerganov/llama.cpp"),
        metrics_flag="--metrics",
        metrics_variable="LLAMA_ARG_ENDPOINT_METRICS",
    ),
)

_TAG = re.compile(r"v(\d+)(?:\.(\d+))?(?:\D.*)?")


def of_image(image: str) -> ServingEngine | None:
    """Return the engine of an official image, also from a registry of one's own, such as a pull-through cache.

    None for any other.
    """
    repository, _ = _parts(image)
    for engine in ENGINES:
        if any(f"/{repository}".endswith(f"/{official}") for official in engine.repositories):
            return engine
    return None


def queue_options(image: str) -> tuple[QueueOption, ...]:
    """Return the options of an image's engine; none where the tag does not tell a version that has them."""
    engine, version = of_image(image), _TAG.fullmatch(_parts(image)[1])
    if engine is None or version is None or (int(version[1]), int(version[2] or 0)) < engine.queue_options_since:
        return ()
    return engine.queue_options


def _parts(image: str) -> tuple[str, str]:
    """Return repository and tag, each empty where the image has none. The colon of a registry's port begins no tag."""
    path, slash, last = image.partition("@")[0].rpartition("/")
    name, _, tag = last.partition(":")
    return path + slash + name, tag
