"""What a boot takes and what a launch costs, on each path: the tables of docs/boot.md and docs/costs.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_fleet.config.boot_estimate import expected_boot, launch_price
from gpu_fleet.config.boot_paths import BOOT_PATHS
from gpu_fleet.config.catalog import InstanceType
from gpu_fleet.config.library import Library
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.scaling.boot import BootPhase
from gpu_fleet.scaling.profile import Profile
from tests.docs.pages import ROOT

LAUNCHES_PER_HOUR = 15


@dataclass(frozen=True, slots=True)
class BootRow:
    """A model on an instance type."""

    model: str
    type: str


ROWS = (
    BootRow("llama-3.1-8b-fp8", "g6.xlarge"),
    BootRow("llama-3.1-8b-fp8", "g6e.xlarge"),
    BootRow("llama-3.1-8b-fp8", "p5.4xlarge"),
    BootRow("llama-70b", "g6.48xlarge"),
    BootRow("llama-70b", "g6e.48xlarge"),
    BootRow("llama-70b", "p5.48xlarge"),
)


def _profile(known: Library, row: BootRow) -> Profile:
    """Return the model's profile on the type's GPUs, or any other of the model: what compiling takes is the model's."""
    model, kind = known.profiles.models[row.model], known.catalog.types[row.type]
    return model.placement(kind.gpu, kind.gpus) or model.profiles[0]


def boot_table() -> str:
    """Return a table for each model and type as Markdown: seconds by phase, and USD of a launch, for each path."""
    known = read_library(ROOT)
    return "\n\n".join(_table(known, row) for row in ROWS)


def _table(known: Library, row: BootRow) -> str:
    model, kind = known.profiles.models[row.model], known.catalog.types[row.type]
    phases = list(BootPhase)
    head = f"**{row.model}, {model.weights_gib:g} GiB, on {row.type}** ({kind.gpus} x {kind.gpu})"
    lines = [
        head,
        "",
        f"| path | {' | '.join(phases)} | s | NAT | volume | instance | USD |",
        "|---|" + "---:|" * (len(phases) + 5),
    ]
    for name, path in BOOT_PATHS.items():
        boot = expected_boot(kind, model, _profile(known, row), known.catalog, path)
        price = launch_price(kind, model, boot, known.catalog, path)
        seconds = " | ".join(f"{boot.by_phase[phase]:.0f}" for phase in phases)
        lines.append(
            f"| {name} | {seconds} | **{boot.seconds:.0f}** | {price.nat_usd:.2f} | {price.volume_usd:.2f} "
            f"| {price.instance_usd:.2f} | **{price.usd:.2f}** |"
        )
    return "\n".join(lines)


def sources() -> str:
    """Return the figures behind the tables and their sources as Markdown."""
    known = read_library(ROOT).catalog
    figures = known.boot.model_dump(exclude={"sources"})
    lines = ["| figure | value | source |", "|---|---:|---|"]
    lines += [f"| `boot.{name}` | {value:g} | {known.boot.sources[name].strip()} |" for name, value in figures.items()]
    prices = known.prices.model_dump(exclude={"source"})
    lines += [f"| `prices.{name}` | {value:g} | {known.prices.source.strip()} |" for name, value in prices.items()]
    lines.append(f"| `types.<name>.running_seconds` | | {known.running_source.strip()} |")
    return "\n".join(lines)


def launch_table(launches: Sequence[int] = (1, 5, LAUNCHES_PER_HOUR)) -> str:
    """Return what launches add to an hour, for the stack's model on its first type, as Markdown."""
    known = read_library(ROOT)
    row = ROWS[0]
    model, kind = known.profiles.models[row.model], known.catalog.types[row.type]
    lines = [
        f"| {row.model} on {row.type} | a launch | " + " | ".join(f"{n} an hour" for n in launches) + " | instances |",
        "|---|" + "---:|" * (len(launches) + 2),
    ]
    for name, path in BOOT_PATHS.items():
        boot = expected_boot(kind, model, _profile(known, row), known.catalog, path)
        price = launch_price(kind, model, boot, known.catalog, path)
        hourly = " | ".join(f"{n * price.usd:.2f}" for n in launches)
        lines.append(f"| {name} | {price.usd:.2f} | {hourly} | {_instances(LAUNCHES_PER_HOUR * price.usd, kind):.1f} |")
    return "\n".join(lines)


def _instances(usd_per_hour: float, kind: InstanceType) -> float:
    """Return how many instances that run all the time cost as much."""
    return usd_per_hour / kind.on_demand_usd_per_hour
