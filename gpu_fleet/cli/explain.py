"""`gpu-fleet explain`: a decision record as sentences."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from gpu_fleet.operate.records import read_records
from gpu_fleet.scaling.boot import LastBoot
from gpu_fleet.scaling.record import Record

BOOT_TOLD_SECONDS = 600.0
"""A boot is told in the records of the ten minutes after it."""


def explain(
    record: Annotated[Path, typer.Argument(help="A decision record, or JSON lines of the scaler's log.")],
) -> None:
    """Print each decision and its reasons, one sentence for each step."""
    console = Console(highlight=False, soft_wrap=True)
    for one in read_records(record):
        for line in sentences(one):
            console.print(escape(line))


def sentences(record: Record) -> list[str]:
    """Return a record as lines of text: time and service, each pool's target, and every step's reason."""
    decision = record.decision
    when = dt.datetime.fromtimestamp(record.now, dt.UTC)
    held = ", held" if decision.held else ""
    shadow = ", shadow: nothing is touched" if record.service.policy.mode == "shadow" else ""
    lines = [f"{when:%Y-%m-%d %H:%M:%S} UTC  {record.service.name}{held}{shadow}"]
    for name, target in decision.targets.items():
        before = record.observation.pools.get(name)
        desired = _change(before.desired if before else None, target.desired)
        weight = _change(before.weight if before else None, target.weight)
        take = f", takes {', '.join(target.take)}" if target.take else ""
        lines.append(f"  {name}: desired {desired}, weight {weight}{take}")
    lines += [
        f"  {name}: {_boot(boot)}"
        for name in decision.targets
        if (boot := decision.state.pool(name).boot) is not None and record.now - boot.at <= BOOT_TOLD_SECONDS
    ]
    if decision.refresh is not None:
        lines.append(f"  {decision.refresh.pool}: rolls to {', '.join(decision.refresh.types)}")
    lines += [f"  {reason.step}: {reason.sentence} [{reason.code}]" for reason in decision.reasons]
    return lines


def _boot(boot: LastBoot) -> str:
    """Return the newest boot as text: "booted in 654 s: running 30, agent 60, image 310, ..."."""
    phases = ", ".join(f"{phase} {seconds:.0f}" for phase, seconds in boot.by_phase.items())
    return f"booted in {boot.seconds:.0f} s" + (f": {phases}" if phases else "")


def _change(before: int | None, after: int) -> str:
    return f"{after}" if before in (None, after) else f"{before} -> {after}"
