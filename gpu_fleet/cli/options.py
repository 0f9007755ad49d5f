"""Options that several commands share; each command sets its own default."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gpu_fleet.backtest.workers import Backend


class Format(StrEnum):
    """Output format."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--format", help="Output format.")]
Root = Annotated[Path, typer.Option(help="The project's root.")]

# The policy and the stack.
Policy = Annotated[str, typer.Argument(help="A policy: a file, or a name in policies/ or own/policies/.")]
Stack = Annotated[str, typer.Option(help="The stack that has the pools.")]
Service = Annotated[str | None, typer.Option(help="Its service; by default the one with the policy.")]

# The traffic.
Traces = Annotated[list[Path], typer.Option(help="A trace; may be repeated. `gpu-fleet trace formats` lists all.")]
Scale = Annotated[float | None, typer.Option(help="Multiply the trace's requests by this factor.")]
PeakInstances = Annotated[
    float | None,
    typer.Option(help="Scale the trace: its busiest minute needs this many instances of the middle pool (default 24)."),
]
Hours = Annotated[float | None, typer.Option(help="Use only this many hours from the start of each trace.")]
Clients = Annotated[
    int,
    typer.Option(min=1, help="Active clients that the requests come from; matters for routing by hash and sticky."),
]
BootSeconds = Annotated[
    float | None,
    typer.Option(min=0, help="Time from launch to first request, in every pool; by default by phases, as catalogued."),
]

# The random numbers.
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers (default 0).")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Number of seeds, starting at 0.")]

# The workers.
Jobs = Annotated[int | None, typer.Option(help="Parallel runs; by default one per core.")]
Computing = Annotated[Backend, typer.Option(help="Where the runs execute.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of the Dask or Ray cluster.")]
