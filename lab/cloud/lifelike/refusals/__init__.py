"""What AWS refuses and moto takes: one module for each kind of thing that is refused.

They need no world and no clock, so a moto server under the real engine can have them too.
"""

from __future__ import annotations

from lab.cloud.lifelike.difference import Difference, Patches

_MODULES = ()

REFUSALS: tuple[Difference, ...] = tuple(module.DIFFERENCE for module in _MODULES)
"""Everything that is refused, with its source."""


def refuse(patches: Patches) -> None:
    """Let the moto of this process refuse what AWS refuses, until the patches end."""
    for module in _MODULES:
        module.mend(patches)
