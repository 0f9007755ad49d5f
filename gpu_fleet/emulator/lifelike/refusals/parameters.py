"""SSM parameters: the size and content of values, and the depth of names."""

from __future__ import annotations

from typing import Any

from moto.ssm import models
from moto.ssm.exceptions import SSMException

from gpu_fleet.emulator.lifelike.difference import Difference, Patches, arguments

DIFFERENCE = Difference(
    name="parameters",
    moto="accepts values of any length in every tier, values with double braces, and names of any depth",
    aws=(
        "a standard parameter has at most 4096 bytes, an advanced one 8192, and intelligent tiering chooses the tier "
        "that fits; a value contains no double braces; a name has at most 15 levels"
    ),
    source=(
        "https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html "
        "https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html"
    ),
)

STANDARD_BYTES, ADVANCED_BYTES, MAX_LEVELS = 4096, 8192, 15


def patch_moto(patches: Patches) -> None:
    """Check parameters before moto stores them, and choose the tier."""
    patches.wrap(models.SimpleSystemManagerBackend, "put_parameter", put_parameter)


def put_parameter(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """PutParameter with a valid name and value."""
    request = arguments(moto, backend, *args, **kwargs)
    name, value = request["name"], request["value"] or ""
    size = len(value.encode())
    tier = request["tier"] or "Standard"
    if tier == "Intelligent-Tiering":
        before = backend._parameters[name][-1].tier if backend._parameters.get(name) else "Standard"
        tier = "Advanced" if size > STANDARD_BYTES or before == "Advanced" else "Standard"
    _check_size(tier, size)
    if "{{" in value and "}}" in value.split("{{", 1)[1]:
        raise SSMException("ValidationException", f"Parameter value '{value}' can't be nested: double braces")
    if name.strip("/").count("/") >= MAX_LEVELS:
        raise SSMException(
            "HierarchyLevelLimitExceededException", f"A hierarchy can have a maximum of {MAX_LEVELS} levels."
        )
    parameter = moto(backend, *args, **kwargs)
    parameter.tier = tier
    return parameter


def _check_size(tier: str, size: int) -> None:
    if tier == "Standard" and size > STANDARD_BYTES:
        raise SSMException(
            "ValidationException",
            f"Standard tier parameters support a maximum parameter value of {STANDARD_BYTES} characters. To "
            "create a larger parameter value, upgrade the parameter to use the advanced-parameter tier.",
        )
    if size > ADVANCED_BYTES:
        raise SSMException(
            "ValidationException",
            f"Advanced tier parameters support a maximum parameter value of {ADVANCED_BYTES} characters.",
        )
