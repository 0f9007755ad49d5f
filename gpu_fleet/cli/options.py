"""The options that several commands share; each says its default itself."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gpu_fleet.backtest.workers import Backend


class Format(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--format", help="How to print.")]
Root = Annotated[Path, typer.Option(help="The project's root.")]

# What is run, and where.
Policy = Annotated[str, typer.Argument(help="A policy: a file, or a name of policies/.")]
Stack = Annotated[str, typer.Option(help="The stack whose pools are used.")]
Service = Annotated[str | None, typer.Option(help="Its service; else the one that has the policy.")]

# Under which traffic.
Traces = Annotated[list[Path], typer.Option(help="A trace; may be repeated. `gpu-fleet trace formats` lists all.")]
Scale = Annotated[float | None, typer.Option(help="So many times the trace's requests.")]
PeakInstances = Annotated[
    float | None,
    typer.Option(help="So high that the busiest minute needs so many instances of the middle pool (default 24)."),
]
Hours = Annotated[float | None, typer.Option(help="Only the first so many hours of each trace.")]
BootSeconds = Annotated[float, typer.Option(min=0, help="Time from order to first request, of every pool.")]

# With which random numbers.
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn (default 0).")]
Seeds = Annotated[int | None, typer.Option(min=1, help="So many seeds, from 0 on.")]

# By whom.
Jobs = Annotated[int | None, typer.Option(help="Runs at a time; default: as many as there are cores.")]
Computing = Annotated[Backend, typer.Option(help="Who computes.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of the Dask or Ray cluster.")]
