"""An embedded cloud set up for a replay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpu_fleet.emulator import EmbeddedCloud, Launch, Registered, provision
from gpu_fleet.simulator.telemetry import FINE_SECONDS, Delays

DELAYS = Delays()
"""CloudWatch's delays, the same as in the simulator."""


def cloudwatch_delays() -> dict[str, float]:
    """Return the delays as `gpu_fleet.emulator.provision` takes them.

    There an engine's delay counts from the start of its 10 seconds, here from their end.
    """
    return {
        "balancer_delay_seconds": DELAYS.minute_seconds,
        "engine_delay_seconds": DELAYS.fine_seconds + FINE_SECONDS,
    }


def replay_cloud(
    stack: str,
    root: Path,
    on_resource: Callable[[Registered], None] | None = None,
    *,
    boot_seconds: float | Callable[[Launch], float | None] = 300.0,
    seed: int = 0,
) -> EmbeddedCloud:
    """Open an embedded cloud with the stack in it. An instance drains until its last simulated request has ended.

    Raises what `gpu_fleet.emulator.provision` raises.
    """
    return provision(
        stack,
        root,
        on_resource,
        seed=seed,
        boot_seconds=boot_seconds,
        drain_seconds=_until_load_gone,
        **cloudwatch_delays(),
    )


def _until_load_gone(_instance_id: str) -> None:
    """Return no time: `EmbeddedCloud.load_gone` ends the draining."""
