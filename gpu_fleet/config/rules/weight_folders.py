"""Weights in S3: an engine that can load them, and the name of their folder."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.engines import of_image
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.model_weights import names_no_model
from gpu_fleet.config.settings import ServiceSettings, WeightsLoad

_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(?:/[A-Za-z0-9!_.*'()-]+)*")
"""Characters of a key that need no care:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html#object-key-guidelines-safe-characters"""


def problems(at: KeyPath, service: ServiceSettings) -> Iterator[PlanProblem]:
    """Check that the weights can be found and loaded."""
    given, container = service.boot.weights, service.container
    if given is None:
        return
    here = (*at, "boot", "weights")
    prefix = getattr(given, "prefix", None)
    if prefix is not None and (_PREFIX.fullmatch(prefix) is None or "*" in prefix):
        yield PlanProblem((*here, "prefix"), f"must be letters, digits and ! - _ . ' ( ) with single / (got {prefix})")
    engine = of_image(container.image)
    streams = engine is not None and engine.streams_from_s3
    if given.load is WeightsLoad.STREAM and not streams:
        yield PlanProblem(
            (*here, "load"), f"must be copy: of the engines that we know, vLLM alone streams (got {given.load})"
        )
    if names_no_model(container):
        yield PlanProblem(
            (*at, "container", "args"),
            "must name the model, as without boot.weights: it is the name that requests use (got no model)",
        )
