"""An instance type's accelerators, by its family: the serving engines and the boot script need NVIDIA GPUs."""

from __future__ import annotations

import re

_OTHER_ACCELERATORS = {
    "inf": "inf types have AWS Inferentia",
    "trn": "trn types have AWS Trainium",
    "dl1": "dl1 types have Gaudi accelerators",
    "dl2q": "dl2q types have Qualcomm AI 100 accelerators",
    "vt": "vt types have AMD media accelerators",
    "g4ad": "g4ad types have AMD GPUs",
}
"""https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html"""


def other_than_nvidia(type_name: str) -> str | None:
    """Return what a type has instead of NVIDIA GPUs, or None for a type with NVIDIA GPUs.

    All types of the families P and G except g4ad have them, by the page above.
    """
    family = type_name.partition(".")[0]
    for prefix, text in _OTHER_ACCELERATORS.items():
        if re.match(rf"{prefix}(\d|$)" if prefix.isalpha() else f"{prefix}$", family):
            return text
    if re.match(r"(p|g|gr)\d", family):
        return None
    return f"{family} types have no GPU" if re.fullmatch(r"[a-z]+\d[a-z0-9-]*", family) else None


def is_arm(type_name: str) -> bool:
    """Whether a type's processor is Graviton or Grace, on which no x86_64 image boots (the page above)."""
    return re.match(r"(g5g|p6e-gb\d+)\.", type_name) is not None


def needs_proprietary_driver(type_name: str) -> bool:
    """Whether a type's GPUs are too old for NVIDIA's open kernel modules.

    https://docs.aws.amazon.com/dlami/latest/devguide/important-changes.html
    """
    return re.match(r"(p2|p3|p3dn|g3|g3s)\.", type_name) is not None
