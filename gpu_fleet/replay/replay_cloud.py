"""An embedded cloud set up for a replay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpu_fleet.emulator import CloudOptions, EmbeddedCloud, Launch, PublishingDelays, RegisteredResource, provision
from gpu_fleet.scaling.boot import Boot
from gpu_fleet.simulator.telemetry import FINE_SECONDS, Delays

DELAYS = Delays()
"""CloudWatch's delays, the same as in the simulator."""


def cloudwatch_delays() -> PublishingDelays:
    """Return the delays as the emulator counts them: an engine's from the start of its 10 seconds, not their end."""
    return PublishingDelays(DELAYS.minute_seconds, DELAYS.fine_seconds + FINE_SECONDS)


def replay_cloud(
    stack: str,
    root: Path,
    on_resource: Callable[[RegisteredResource], None] | None = None,
    *,
    boot_seconds: float | Callable[[Launch], float | Boot | None] = 300.0,
    seed: int = 0,
) -> EmbeddedCloud:
    """Open an embedded cloud with the stack in it. An instance drains until its last simulated request has ended.

    Raises what `gpu_fleet.emulator.provision` raises.
    """
    options = CloudOptions(
        seed=seed, boot_seconds=boot_seconds, drain_seconds=_until_load_gone, delays=cloudwatch_delays()
    )
    return provision(stack, root, options, on_resource)


def _until_load_gone(_instance_id: str) -> None:
    """Return no time: `EmbeddedCloud.finish_drain` ends the draining."""
