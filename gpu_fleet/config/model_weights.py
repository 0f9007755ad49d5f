"""Weights in S3: where they are, and how an engine is told to load them from there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_fleet.config import naming
from gpu_fleet.config.engines import ServingEngine, of_image
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


def streams(service: ServiceSettings) -> bool:
    """Return whether the engine reads the weights from S3 itself."""
    return service.boot.weights is not None and service.boot.weights.load is WeightsLoad.STREAM


def names_no_model(container: Container) -> bool:
    """Return whether the arguments lack the model that their engine must be told."""
    engine = of_image(container.image)
    return engine is not None and bool(engine.model_options) and _find(engine, container.args) is None


def served(container: Container, weights: Weights, uri: str) -> Container:
    """Return the container with arguments that load the weights from where they are, under the name that they had.

    `--model org/name` becomes `--model /weights --served-model-name org/name`, or for a stream `--model s3://...
    --load-format runai_streamer`. The arguments of an engine that we do not know stay: its weights are in /weights.
    """
    engine = of_image(container.image)
    found = _find(engine, container.args) if engine else None
    if engine is None or found is None:
        return container
    position, model = found
    stream = weights.load is WeightsLoad.STREAM
    args, path = list(container.args), uri if stream else CONTAINER_PATH
    option, equals, _ = args[position].partition("=")
    args[position] = f"{option}={path}" if equals else path
    if engine.served_name_option and not _has(args, engine.served_name_option):
        args += [engine.served_name_option, model]
    if stream and not _has(args, "--load-format"):
        args += ["--load-format", "runai_streamer"]
    return container.model_copy(update={"args": tuple(args)})


def _find(engine: ServingEngine, args: Sequence[str]) -> tuple[int, str] | None:
    """Return the position of the argument with the model, and the model."""
    if engine.model_may_be_first and args and not args[0].startswith("-"):
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
