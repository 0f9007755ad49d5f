"""`gpu-fleet tune`: a better policy for a trace, held against traffic that the search has not seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpu_fleet.backtest.workers import Backend
from gpu_fleet.cli import options
from gpu_fleet.cli.compare import check_height, cut, progress, wrong
from gpu_fleet.cli.thresholds import write_report

if TYPE_CHECKING:
    from gpu_fleet.backtest.backtest import Setting
    from gpu_fleet.backtest.tune import SeedFigures, Trial, TuneResult, Verdict


def tune(
    policy: options.Policy,
    trace: Annotated[Path, typer.Option(help="The history. `gpu-fleet trace formats` lists what is read.")],
    slo: Annotated[
        float | None, typer.Option(help="Share of requests that must keep to the policy's limits; else the policy's.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Policies that are tried.")] = 40,
    scale: options.Scale = None,
    peak_instances: options.PeakInstances = None,
    boot_seconds: options.BootSeconds = 300,
    hours: options.Hours = None,
    train_share: Annotated[float, typer.Option(help="Share of the trace that is trained on; the rest is held out.")] = (
        2 / 3
    ),
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same search.")] = 0,
    seeds: Annotated[int, typer.Option(min=2, help="Seeds of the held-out part.")] = 5,
    output: options.Output = options.Format.TABLE,
    patch: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the changes: .yaml the whole policy, else a patch for `git apply`."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with the Pareto front to this file.")] = None,
    stack: options.Stack = "local",
    service: options.Service = None,
    jobs: options.Jobs = None,
    backend: options.Computing = Backend.LOKY,
    scheduler: options.Scheduler = None,
    root: options.Root = Path(),
) -> None:
    """Search for a policy that keeps to the SLO for less, and hold it against traffic it has not seen.

    Trains on the first part of the trace and recommends only what also holds on the rest, on every seed. Of a long
    trace the day before the cut and the half day after it are used.
    """
    from rich.console import Console

    from gpu_fleet.backtest.backtest import PEAK_INSTANCES, factor_for, setting
    from gpu_fleet.backtest.tune import tune as search
    from gpu_fleet.backtest.workers import workers
    from gpu_fleet.traffic import read
    from gpu_fleet.traffic.errors import trace_errors

    for name, value in (("--slo", slo), ("--train-share", train_share)):
        if value is not None and not 0 < value < 1:
            raise wrong(name, f"must be between 0 and 1 (got {value:g})")
    check_height(scale, peak_instances, hours)
    held = setting(root, policy, stack, service)
    wanted = held.attainment if slo is None else slo
    aimed = aimed_at(held, wanted)
    with (
        trace_errors(trace),
        progress(Console(stderr=True)) as (begin, done),
        workers(backend, jobs, scheduler) as everywhere,
    ):
        there = cut(read(trace), hours)
        height = PEAK_INSTANCES if peak_instances is None else peak_instances
        found = search(
            aimed,
            there,
            factor_for(held, there, height) if scale is None else scale,
            everywhere,
            slo=wanted,
            trials=trials,
            seed=seed,
            seeds=seeds,
            boot_seconds=boot_seconds,
            train_share=train_share,
            begin=begin,
            done=done,
        )
    change = _change(root, policy, held, found, there.name)
    if output is options.Format.JSON:
        typer.echo(json.dumps(as_json(found, change), indent=2, allow_nan=False))
    else:
        _print(found, change)
    if patch is not None:
        _write(patch, root, policy, held, found, there.name, change)
    if report is not None:
        from gpu_fleet.reports.tune_page import tune_page

        write_report(report, tune_page(held.policy_name, there.name, found, change))


def aimed_at(held: Setting, slo: float) -> Setting:
    """The setting whose policy aims at this attainment. A policy without latency limits stays as it is."""
    policy = held.service.policy
    if policy.slo is None or policy.slo.attainment == slo:
        return held
    aimed = policy.slo.model_copy(update={"attainment": slo})
    return held.with_policy(policy.model_copy(update={"slo": aimed}))


def changes(held: Setting, found: TuneResult) -> dict[str, float | int | str]:
    """The keys to change and their values; nothing where nothing is recommended."""
    if found.recommended is None:
        return {}
    slo = held.service.policy.slo
    aim = {"slo.attainment": found.slo} if slo is not None and slo.attainment != found.slo else {}
    return aim | dict(found.recommended.trial.values)


def _texts(root: Path, policy: str, held: Setting, found: TuneResult, trace: str) -> tuple[str, str, str]:
    """The policy's file as a patch names it, its text, and the text with the changes."""
    from gpu_fleet.config.patch import patched
    from gpu_fleet.config.policy_files import policy_file
    from gpu_fleet.config.yaml_files import read_text

    named = Path(policy)
    name = _relative(named, root) if named.suffix else policy_file(root, policy)
    path = named if named.suffix else root / name
    text = read_text(path, str(path))
    return name, text, patched(text, changes(held, found), expected(found, trace))


def _relative(path: Path, root: Path) -> str:
    whole, top = path.resolve(), root.resolve()
    return str(whole.relative_to(top)) if whole.is_relative_to(top) else path.name


def _change(root: Path, policy: str, held: Setting, found: TuneResult, trace: str) -> str:
    from gpu_fleet.config.patch import difference

    if found.recommended is None:
        return ""
    name, before, after = _texts(root, policy, held, found, trace)
    return difference(before, after, name)


def expected(found: TuneResult, trace: str) -> list[str]:
    """What the change is expected to do, as the comment above it says."""
    verdict = found.recommended
    if verdict is None:
        return []
    savings = verdict.holdout.savings(found.holdout)
    low, high = -max(savings), -min(savings)
    after = verdict.holdout
    spread = f"{min(after.attainments):.3%} to {max(after.attainments):.3%}"
    cost = f"Tuned on {trace}. On the part held out: cost {low:+.1%} to {high:+.1%} over {found.seeds} seeds,"
    share = f"{after.attainment:.3%} within the SLO ({spread}) where it was {found.holdout.attainment:.3%}."
    return [cost, share]


def _write(path: Path, root: Path, policy: str, held: Setting, found: TuneResult, trace: str, change: str) -> None:
    if found.recommended is None:
        typer.echo(f"nothing is recommended; {path} is not written", err=True)
        return
    text = _texts(root, policy, held, found, trace)[2] if path.suffix in (".yaml", ".yml") else change
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise wrong("--output", f"{path} cannot be written: {error.strerror}") from None
    typer.echo(f"changes: {path}", err=True)


def as_json(found: TuneResult, change: str) -> dict[str, Any]:
    """The answer as `--format json` prints it."""
    return {
        "slo": found.slo,
        "train_seconds": list(found.train_seconds),
        "holdout_seconds": list(found.holdout_seconds),
        "policy": {"train": _figures(found.train), "holdout": _figures(found.holdout)},
        "trials": len(found.trials),
        "pareto_front": [_trial(one) for one in found.front],
        "candidates": [_verdict(one, found) for one in found.verdicts],
        "recommended": None if found.recommended is None else _verdict(found.recommended, found),
        "patch": change or None,
    }


def _figures(one: SeedFigures) -> dict[str, Any]:
    return {
        "slo_attainment": one.attainment,
        "cost_usd": one.cost_usd,
        "cost_ratio_to_clairvoyant": one.ratio,
        "slo_attainment_by_seed": list(one.attainments),
        "cost_usd_by_seed": list(one.costs_usd),
    }


def _trial(one: Trial) -> dict[str, Any]:
    return {"values": dict(one.values), "train": _figures(one.train)}


def _verdict(one: Verdict, found: TuneResult) -> dict[str, Any]:
    return {
        **_trial(one.trial),
        "holdout": _figures(one.holdout),
        "saving_by_seed": list(one.holdout.savings(found.holdout)),
        "accepted": one.accepted,
        "why": one.why,
    }


def _print(found: TuneResult, change: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from gpu_fleet.reports.tune_page import shown, verdict_lines

    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 140))
    table = Table(box=None, header_style="bold", title="Pareto front in training", title_justify="left")
    for title in ("USD", "of clairvoyant", "within SLO"):
        table.add_column(title, justify="right")
    table.add_column("changes")
    for one in found.front:
        enough = one.train.attainment >= found.slo
        table.add_row(
            f"{one.train.cost_usd:,.2f}",
            f"{one.train.ratio:.3f}",
            f"{one.train.attainment:.3%}",
            escape(shown(list(one.values.items()))),
            style=None if enough else "dim",
        )
    console.print(table)
    for line in verdict_lines(found):
        console.print(line, highlight=False, soft_wrap=True)
    if change:
        console.print()
        console.print(change, markup=False, highlight=False, soft_wrap=True)
