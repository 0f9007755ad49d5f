"""The SSM parameter from which the scaler reads a service."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gpu_fleet.scaling import record
from gpu_fleet.scaling.service import Service

MAX_BYTES = 8192
"""https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"""


def parameter_value(model: Service, bindings: Mapping[str, object]) -> str:
    """Return the parameter's JSON: the service without its policy's test cases, and the AWS names of its parts."""
    without_cases = model.model_copy(update={"policy": model.policy.model_copy(update={"cases": ()})})
    return json.dumps({"service": json.loads(record.dump(without_cases)), "bindings": bindings}, separators=(",", ":"))
