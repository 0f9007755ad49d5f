"""The container: values that go into the boot script, Docker's arguments and a health check."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.settings import ServiceSettings
from gpu_fleet.config.wording import quoted

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")

_IMAGE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?"
)
"""https://github.com/distribution/reference/blob/main/reference.go"""

MAX_HEALTH_PATH = 1024
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html (HealthCheckPath)"""

_URL_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]*")
"""https://www.rfc-editor.org/rfc/rfc3986#section-3.3, and a query."""


def problems(at: KeyPath, service: ServiceSettings) -> Iterator[PlanProblem]:
    """Check each value of the container."""
    container, here = service.container, (*at, "container")
    for i, arg in enumerate(getattr(container, "args", ())):
        if _CONTROL.search(arg):
            yield PlanProblem((*here, "args", i), f"must be one line without control characters (got {_escaped(arg)})")
    environment = getattr(container, "environment", {})
    for name, value in environment.items():
        if _CONTROL.search(value):
            yield PlanProblem(
                (*here, "environment", name),
                f"must be one line without control characters (got {_escaped(value)})",
            )
    for name in getattr(container, "secrets", {}):
        if name in environment:
            yield PlanProblem((*here, "secrets", name), f"must not be in environment as well (got {name})")
    key = getattr(container, "kms_key_arn", None)
    if key and not container.secrets:
        yield PlanProblem((*here, "kms_key_arn"), f"must be given only with secrets (got {key})")
    path = getattr(container, "health_path", "/")
    if not path.startswith("/"):
        yield PlanProblem((*here, "health_path"), f"must be a path that begins with / (got {quoted(path)})")
    elif _URL_PATH.fullmatch(path) is None:
        yield PlanProblem(
            (*here, "health_path"), f"must be a path of a URL, other characters as %20 (got {quoted(path)})"
        )
    if len(path) > MAX_HEALTH_PATH:
        yield PlanProblem((*here, "health_path"), f"must be at most {MAX_HEALTH_PATH} characters (got {len(path)})")
    if container.image and _IMAGE.fullmatch(container.image) is None:
        yield PlanProblem(
            (*here, "image"), f"must be an image like vllm/vllm-openai:v0.11.0 (got {quoted(container.image)})"
        )


def _escaped(value: str) -> str:
    """Return a value with its control characters escaped."""
    return quoted(repr(value)[1:-1])
