"""`gpu-fleet explain`: a decision record as sentences."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from gpu_fleet.operate.records import read_records
from gpu_fleet.scaling.record import Record


def explain(
    record: Annotated[Path, typer.Argument(help="A decision record, or JSON lines of the scaler's log.")],
) -> None:
    """Print what was decided and, one sentence for each step, why."""
    console = Console(highlight=False, soft_wrap=True)
    for one in read_records(record):
        for line in sentences(one):
            console.print(escape(line))


def sentences(one: Record) -> list[str]:
    """A record as lines of text: when and for whom, what each pool shall be, and every step's reason."""
    when = dt.datetime.fromtimestamp(one.now, dt.UTC)
    held = ", held" if one.decision.held else ""
    shadow = ", shadow: nothing is touched" if one.service.policy.mode == "shadow" else ""
    lines = [f"{when:%Y-%m-%d %H:%M:%S} UTC  {one.service.name}{held}{shadow}"]
    for name, target in one.decision.targets.items():
        seen = one.observation.pools.get(name)
        desired = (
            f"{seen.desired} -> {target.desired}" if seen and seen.desired != target.desired else f"{target.desired}"
        )
        weight = f"{seen.weight} -> {target.weight}" if seen and seen.weight != target.weight else f"{target.weight}"
        take = f", takes {', '.join(target.take)}" if target.take else ""
        lines.append(f"  {name}: desired {desired}, weight {weight}{take}")
    if one.decision.refresh is not None:
        refresh = one.decision.refresh
        lines.append(f"  {refresh.pool}: rolls to {', '.join(refresh.types)}")
    lines += [f"  {reason.step}: {reason.sentence} [{reason.code}]" for reason in one.decision.reasons]
    return lines
