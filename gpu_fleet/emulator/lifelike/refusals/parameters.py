"""SSM parameters: how long a value may be, and what it may not hold."""

from __future__ import annotations

from typing import Any

from moto.ssm import models
from moto.ssm.exceptions import SSMException

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="parameters",
    moto="takes values of any length in every tier, values in double braces, and names of any depth",
    aws=(
        "a standard parameter has 4096 bytes, an advanced one 8192, and intelligent tiering takes the one that fits; "
        "a value holds no double braces; a name has 15 levels"
    ),
    source=(
        "https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html "
        "https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"
    ),
)

STANDARD_BYTES, ADVANCED_BYTES, MOST_LEVELS = 4096, 8192, 15


def mend(patches: Patches) -> None:
    """Check before moto acts, and settle the tier."""

    def put_parameter(self: Any, name: str, description: str, value: str, *more: Any, **named: Any) -> Any:
        tier = named.get("tier", more[6] if len(more) > 6 else None) or "Standard"
        size = len((value or "").encode())
        if tier == "Intelligent-Tiering":
            before = self._parameters[name][-1].tier if self._parameters.get(name) else "Standard"
            tier = "Advanced" if size > STANDARD_BYTES or before == "Advanced" else "Standard"
        if size > (STANDARD_BYTES if tier == "Standard" else ADVANCED_BYTES):
            if tier == "Standard":
                raise SSMException(
                    "ValidationException",
                    f"Standard tier parameters support a maximum parameter value of {STANDARD_BYTES} characters. To "
                    "create a larger parameter value, upgrade the parameter to use the advanced-parameter tier.",
                )
            raise SSMException(
                "ValidationException",
                f"Advanced tier parameters support a maximum parameter value of {ADVANCED_BYTES} characters.",
            )
        if value and "{{" in value and "}}" in value.split("{{", 1)[1]:
            raise SSMException("ValidationException", f"Parameter value '{value}' can't be nested: double braces")
        if name.strip("/").count("/") >= MOST_LEVELS:
            raise SSMException(
                "HierarchyLevelLimitExceededException", f"A hierarchy can have a maximum of {MOST_LEVELS} levels."
            )
        made = moto_put(self, name, description, value, *more, **named)
        made.tier = tier
        return made

    moto_put = patches.put(models.SimpleSystemManagerBackend, "put_parameter", put_parameter)
