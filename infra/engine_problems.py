"""Engines: what an official image needs to be told, so that the instance and the scaler can see it.

Only official images are checked. What another image's entrypoint does, nobody can know here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpu_fleet.config.engines import DEFAULT_HEALTH_PATH, ServingEngine, of_image
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.settings import Container, StackSettings
from gpu_fleet.config.validation import until_hole
from gpu_fleet.scaling.policy import Workload
from gpu_fleet.scaling.service import Service


def problems(settings: StackSettings, models: Sequence[Service]) -> list[PlanProblem]:
    """Return what the engines of the services that serve requests lack."""
    serving = [model.name for model in models if model.policy.workload is not Workload.TRAINING]
    return [problem for name in serving for problem in until_hole(_service_problems, settings, name)]


def _service_problems(settings: StackSettings, name: str) -> Iterator[PlanProblem]:
    container = settings.services[name].container
    engine = of_image(container.image)
    if engine is None:
        return
    at = ("services", name, "container")
    if engine.metrics_flag and not _has_metrics(container, engine):
        yield PlanProblem(
            (*at, "args"),
            f"must have {engine.metrics_flag}, without which {engine.name} publishes no metrics, and its load is "
            f"unknown (got {' '.join(container.args) or 'none'})",
        )
    if engine.health_path != container.health_path and container.health_path == DEFAULT_HEALTH_PATH:
        yield PlanProblem(
            (*at, "health_path"),
            f"must be a path that {engine.name} answers, as {engine.health_path} (got {container.health_path})",
        )


def _has_metrics(container: Container, engine: ServingEngine) -> bool:
    """Whether an argument is the flag, or has it in a command for a shell; or the variable is set."""
    words = [word for arg in container.args for word in arg.replace("=", " ").split()]
    return engine.metrics_flag in words or engine.metrics_variable in container.environment
