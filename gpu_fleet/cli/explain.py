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
    if decision.refresh is not None:
        lines.append(f"  {decision.refresh.pool}: rolls to {', '.join(decision.refresh.types)}")
    lines += [f"  {reason.step}: {reason.sentence} [{reason.code}]" for reason in decision.reasons]
    return lines


def _change(before: int | None, after: int) -> str:
    return f"{after}" if before in (None, after) else f"{before} -> {after}"
