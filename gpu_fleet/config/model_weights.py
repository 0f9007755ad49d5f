"""Weights in S3: where they are, and how an engine is told to load them from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_fleet.config import naming
from gpu_fleet.config.settings import Container, ServiceSettings, Weights, WeightsLoad

CONTAINER_PATH = "/weights"
"""Where a container finds the weights that its instance has copied."""


@dataclass(frozen=True, slots=True)
class WeightsPlace:
    """A folder of a bucket."""

    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """The folder as `aws s3` and engines name it."""
        return f"s3://{self.bucket}/{self.prefix}/"


def place(project: str, stack: str, account: str, name: str, service: ServiceSettings) -> WeightsPlace | None:
    """Return where a service's weights are: by default in the stack's bucket, under the service's name."""
    weights = service.boot.weights
    if weights is None:
        return None
    bucket = weights.bucket or naming.weights_bucket(project, stack, account)
    return WeightsPlace(bucket, weights.prefix or name)


@dataclass(frozen=True, slots=True)
class _Engine:
    """How an engine names its model."""

    model_options: tuple[str, ...]
    name_option: str | None
    """The name that requests use, which would else be the path."""
    positional: bool = False
    """Whether its first argument may be the model."""


_ENGINES = {
    # https://docs.vllm.ai/en/latest/cli/serve.html
    "vllm/vllm-openai": _Engine(("--model",), "--served-model-name", positional=True),
    # https://docs.sglang.ai/advanced_features/server_arguments.html
    "lmsysorg/sglang": _Engine(("--model-path", "--model"), "--served-model-name"),
    # https://huggingface.co/docs/text-generation-inference/reference/launcher: it serves any name.
    "huggingface/text-generation-inference": _Engine(("--model-id",), None),
}
"""By repository, also behind a registry of one's own."""


def streams(service: ServiceSettings) -> bool:
    """Return whether the engine reads the weights from S3 itself."""
    return service.boot.weights is not None and service.boot.weights.load is WeightsLoad.STREAM


def can_stream(image: str) -> bool:
    """Return whether the image's engine can read weights from S3: vLLM's has the streamer with S3.

    https://docs.vllm.ai/en/stable/models/extensions/runai_model_streamer/
    """
    return _engine(image) is _ENGINES["vllm/vllm-openai"]


def model_argument(container: Container) -> str | None:
    """Return the model that the arguments name; None if they name none, or the engine is unknown."""
    engine = _engine(container.image)
    found = _find(engine, container.args) if engine else None
    return found[1] if found else None


def knows_engine(image: str) -> bool:
    """Return whether we know how the image's engine names its model."""
    return _engine(image) is not None


def served(container: Container, weights: Weights, uri: str) -> Container:
    """Return the container with arguments that load the weights from where they are, under the name that they had.

    `--model org/name` becomes `--model /weights --served-model-name org/name`, or for a stream `--model s3://...
    --load-format runai_streamer`. The arguments of an engine that we do not know stay: its weights are in /weights.
    """
    engine = _engine(container.image)
    found = _find(engine, container.args) if engine else None
    if engine is None or found is None:
        return container
    position, model = found
    stream = weights.load is WeightsLoad.STREAM
    args, path = list(container.args), uri if stream else CONTAINER_PATH
    option, equals, _ = args[position].partition("=")
    args[position] = f"{option}={path}" if equals else path
    if engine.name_option and not _has(args, engine.name_option):
        args += [engine.name_option, model]
    if stream and not _has(args, "--load-format"):
        args += ["--load-format", "runai_streamer"]
    return container.model_copy(update={"args": tuple(args)})


def _engine(image: str) -> _Engine | None:
    repository = image.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    return next((engine for name, engine in _ENGINES.items() if f"/{repository}".endswith(f"/{name}")), None)


def _find(engine: _Engine, args: Sequence[str]) -> tuple[int, str] | None:
    """Return the position of the argument with the model, and the model."""
    if engine.positional and args and not args[0].startswith("-"):
        return 0, args[0]
    for i, arg in enumerate(args):
        option, equals, value = arg.partition("=")
        if option in engine.model_options:
            if equals:
                return i, value
            return (i + 1, args[i + 1]) if i + 1 < len(args) else None
    return None


def _has(args: Sequence[str], option: str) -> bool:
    return any(arg.partition("=")[0].replace("_", "-") == option for arg in args)
