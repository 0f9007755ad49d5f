"""What the scaler reads of a service: an SSM parameter."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gpu_fleet.scaling import record
from gpu_fleet.scaling.service import Service

MAX_BYTES = 8192
"""https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"""


def parameter(model: Service, bindings: Mapping[str, object]) -> str:
    """The service, and the names that AWS gave its parts. The policy's own test cases stay here."""
    bare = model.model_copy(update={"policy": model.policy.model_copy(update={"cases": ()})})
    return json.dumps({"service": json.loads(record.dump(bare)), "bindings": bindings}, separators=(",", ":"))
