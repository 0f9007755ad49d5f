"""What an instance type accelerates with, by its family: the serving engines and the boot script need NVIDIA GPUs."""

from __future__ import annotations

import re

_OTHERS = {
    "inf": "inf types have AWS Inferentia",
    "trn": "trn types have AWS Trainium",
    "dl1": "dl1 types have Gaudi accelerators",
    "dl2q": "dl2q types have Qualcomm AI 100 accelerators",
    "vt": "vt types have AMD media accelerators",
    "g4ad": "g4ad types have AMD GPUs",
}
"""https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html"""


def other_than_nvidia(type_name: str) -> str | None:
    """What a type has instead of NVIDIA GPUs; None where it has them.

    All types of the families P and G have them but g4ad, by the page above.
    """
    family = type_name.partition(".")[0]
    for start, what in _OTHERS.items():
        if re.match(rf"{start}(\d|$)" if start.isalpha() else f"{start}$", family):
            return what
    if re.match(r"(p|g|gr)\d", family):
        return None
    return f"{family} types have no GPU" if re.fullmatch(r"[a-z]+\d[a-z0-9-]*", family) else None
