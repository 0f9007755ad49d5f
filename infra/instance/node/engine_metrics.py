"""What the serving engines publish.

This is the only place with their names of metrics. A page may have those of several: a worker may serve with vLLM
inside. How each is told from its image and started is in `gpu_fleet/config/engines.py`, under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MetricSelector:
    """The samples of one name, or those of them that have these labels."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    def of(self, page):
        """Return its samples on a page."""
        return [s for s in page.get(self.name, ()) if all(s.labels.get(key) == value for key, value in self.labels)]


def _series(*names):
    return tuple(MetricSelector(name) for name in names)


def _labelled(name, **labels):
    return (MetricSelector(name, tuple(labels.items())),)


@dataclass(frozen=True)
class EngineMetrics:
    """One engine. Where a metric has several names (versions of the engine), the first on the page counts."""

    name: str
    gauges: dict[str, tuple[MetricSelector, ...]] = field(default_factory=dict)
    """By the name under which they are published: the sum over the series."""
    shares: dict[str, tuple[MetricSelector, ...]] = field(default_factory=dict)
    """From 0 to 1, published as a percentage: the mean over the series."""
    means: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Histograms or summaries (`_sum` and `_count`) of the requests that finished."""
    finished: tuple[MetricSelector, ...] = ()
    """Counter of finished requests."""
    ttft: tuple[str, ...] = ()
    """Histogram of seconds to the first token."""
    tpot: tuple[str, ...] = ()
    """Histogram of each finished request's mean seconds per token. Histograms of the gaps between tokens are no
    substitute: a prompt that is read in between makes 10 % of the gaps long, and no request late."""
    progress: tuple[MetricSelector, ...] = ()
    """Counters that move while it generates. Those of requests that finished do not: an answer may take an hour."""
    silent_until_used: bool = False
    """Whether it publishes nothing before its first request."""
    weights_loaded: str = ""
    """What it logs when its weights are in the GPU's memory; empty where it logs nothing of its own for that."""


ENGINES = (
    # https://docs.vllm.ai/en/latest/usage/metrics.html
    EngineMetrics(
        "vllm",
        gauges={
            "requests_running": _series("vllm:num_requests_running"),
            "requests_waiting": _series("vllm:num_requests_waiting"),
        },
        shares={"kv_cache_percent": _series("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")},
        means={
            "input_tokens": ("vllm:request_prompt_tokens",),
            "output_tokens": ("vllm:request_generation_tokens",),
        },
        finished=_series("vllm:e2e_request_latency_seconds_count"),
        ttft=("vllm:time_to_first_token_seconds",),
        tpot=("vllm:request_time_per_output_token_seconds",),  # from 0.11
        progress=_series("vllm:prompt_tokens_total", "vllm:generation_tokens_total"),
        weights_loaded="Model loading took",  # each loader's; vllm/v1/worker/gpu_model_runner.py
    ),
    # https://docs.sglang.ai/references/production_metrics.html
    EngineMetrics(
        "sglang",
        gauges={
            "requests_running": _series("sglang:num_running_reqs"),
            "requests_waiting": _series("sglang:num_queue_reqs"),
        },
        shares={"kv_cache_percent": _series("sglang:token_usage")},
        means={
            "input_tokens": ("sglang:prompt_tokens_histogram",),
            "output_tokens": ("sglang:generation_tokens_histogram",),
        },
        finished=_series("sglang:e2e_request_latency_seconds_count"),
        ttft=("sglang:time_to_first_token_seconds",),
        tpot=("sglang:request_time_per_output_token_seconds",),  # where it has it
        # Its totals of tokens grow when a request ends.
        progress=_series("sglang:realtime_tokens_total", "sglang:inter_token_latency_seconds_count"),
        weights_loaded="Load weight end.",  # python/sglang/srt/model_executor/model_runner.py
    ),
    # https://github.com/huggingface/text-generation-inference/blob/main/docs/source/reference/metrics.md
    # Its time per token includes the prompt, and it has no time to the first token.
    EngineMetrics(
        "tgi",
        gauges={
            "requests_running": _series("tgi_batch_current_size"),
            "requests_waiting": _series("tgi_queue_size"),
        },
        means={
            "input_tokens": ("tgi_request_input_length",),
            "output_tokens": ("tgi_request_generated_tokens",),
        },
        finished=_series("tgi_request_success"),
        progress=_series("tgi_batch_inference_count"),
        silent_until_used=True,
        weights_loaded="Shard ready in",  # launcher/src/main.rs
    ),
    # https://github.com/triton-inference-server/server/blob/main/docs/user_guide/metrics.md
    # https://github.com/triton-inference-server/tensorrtllm_backend (README, Triton Metrics)
    # Each request counts once for every model of the ensemble: only the engine's own count is taken.
    EngineMetrics(
        "triton",
        gauges={
            "requests_running": _labelled("nv_trt_llm_request_metrics", request_type="scheduled"),
            "requests_waiting": _labelled("nv_trt_llm_request_metrics", request_type="waiting"),
        },
        shares={
            "kv_cache_percent": _labelled("nv_trt_llm_kv_cache_block_metrics", kv_cache_block_type="fraction"),
        },
        means={
            "input_tokens": ("nv_llm_input_token_len",),
            "output_tokens": ("nv_llm_output_token_len",),
        },
        finished=_labelled("nv_inference_request_success", model="tensorrt_llm"),
        progress=_labelled("nv_trt_llm_general_metrics", general_type="iteration_counter"),
    ),
    # https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md#get-metrics-prometheus-compatible-metrics-exporter
    EngineMetrics(
        "llama.cpp",
        gauges={
            "requests_running": _series("llamacpp:requests_processing"),
            "requests_waiting": _series("llamacpp:requests_deferred"),
        },
        shares={"kv_cache_percent": _series("llamacpp:kv_cache_usage_ratio")},  # until 2025
        progress=_series("llamacpp:n_decode_total"),  # its tokens count when a request ends
    ),
    # A container of one's own, and training workers: docs/deploy.md#5-a-container
    EngineMetrics(
        "worker",
        gauges={
            "requests_running": _series("requests_running"),
            "requests_waiting": _series("requests_waiting"),
            "jobs_running": _series("jobs_running"),
            "job_remaining_seconds": _series("job_remaining_seconds"),
        },
        means={"job_seconds": ("job_seconds",)},
        finished=_series("requests_finished_total"),
    ),
)

BUSY = ("requests_running", "requests_waiting", "jobs_running")
"""Gauges that say whether an engine has something in hand."""


def named(name):
    """Return the engine of this name; None if there is none."""
    return next((engine for engine in ENGINES if engine.name == name), None)
