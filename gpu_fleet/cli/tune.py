"""`gpu-fleet tune`: a better policy for a trace, proven on traffic that the search has not seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpu_fleet.backtest.workers import Backend
from gpu_fleet.cli import options
from gpu_fleet.cli.comparison_table import wide_console
from gpu_fleet.cli.progress_bar import progress_bar
from gpu_fleet.cli.report_file import write_report
from gpu_fleet.cli.scenario_options import TraceOptions, option_error

if TYPE_CHECKING:
    from rich.table import Table

    from gpu_fleet.backtest.setting import Setting
    from gpu_fleet.backtest.tune import SeedFigures, Trial, TuneResult, Verdict


def tune(
    policy: options.Policy,
    trace: Annotated[Path, typer.Option(help="The history. `gpu-fleet trace formats` lists the formats.")],
    slo: Annotated[
        float | None,
        typer.Option(help="Share of requests that must keep to the policy's limits; default: the policy's own."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of policies to try.")] = 40,
    scale: options.Scale = None,
    peak_instances: options.PeakInstances = None,
    boot_seconds: options.BootSeconds = None,
    hours: options.Hours = None,
    train_share: Annotated[float, typer.Option(help="Share of the trace to train on; the rest is held out.")] = 2 / 3,
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
    """Search for a policy that keeps to the SLO at a lower cost, and prove it on traffic that it has not seen.

    Trains on the first part of the trace and recommends only what also wins on the rest, on every seed. Of a long
    trace, the day before the cut and the half day after it are used.
    """
    from gpu_fleet.backtest.scenario import ScenarioSpec
    from gpu_fleet.backtest.setting import read_setting
    from gpu_fleet.backtest.tune import Search
    from gpu_fleet.backtest.tune import tune as search_for
    from gpu_fleet.backtest.workers import workers
    from gpu_fleet.traffic import read
    from gpu_fleet.traffic.errors import trace_errors

    _check_shares({"--slo": slo, "--train-share": train_share})
    traces = TraceOptions(scale, peak_instances, hours)
    traces.check()
    setting = read_setting(root, policy, stack, service)
    search = Search(setting.attainment if slo is None else slo, trials, seeds, train_share)
    with trace_errors(trace), progress_bar() as progress, workers(backend, jobs, scheduler) as pool:
        history = traces.cut(read(trace))
        factor = traces.factor(setting, history)
        spec = ScenarioSpec(aimed_at(setting, search.slo), history, factor, seed, boot_seconds)
        result = search_for(spec, search, pool, progress)
    change = recommended_change(root, policy, setting, result, history.name)
    diff = "" if change is None else change.patch
    _print(result, diff, output)
    if patch is not None:
        _write(patch, change)
    if report is not None:
        from gpu_fleet.reports.tune_page import tune_page

        write_report(report, tune_page(setting.policy_name, history.name, result, diff))


def _check_shares(shares: dict[str, float | None]) -> None:
    for option, value in shares.items():
        if value is not None and not 0 < value < 1:
            raise option_error(option, f"must be between 0 and 1 (got {value:g})")


def aimed_at(setting: Setting, slo: float) -> Setting:
    """Return the setting with this attainment as the policy's aim. A policy without latency limits stays as it is."""
    policy = setting.service.policy
    if policy.slo is None or policy.slo.attainment == slo:
        return setting
    aimed = policy.slo.model_copy(update={"attainment": slo})
    return setting.with_policy(policy.model_copy(update={"slo": aimed}))


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """A policy's file before and after the recommended changes."""

    file: str
    """The path in the patch."""
    before: str
    after: str

    @property
    def patch(self) -> str:
        """The change as `git apply` takes it."""
        from gpu_fleet.config.patch import difference

        return difference(self.before, self.after, self.file)


def recommended_change(
    root: Path, policy: str, setting: Setting, result: TuneResult, trace: str
) -> PolicyChange | None:
    """Return the change of the policy's file; None if nothing is recommended."""
    from gpu_fleet.config.patch import patched
    from gpu_fleet.config.policy_files import policy_file
    from gpu_fleet.config.yaml_files import read_text

    verdict = result.recommended
    if verdict is None:
        return None
    named = Path(policy)
    file = _relative(named, root) if named.suffix else policy_file(root, policy)
    path = named if named.suffix else root / file
    before = read_text(path, str(path))
    slo = setting.service.policy.slo
    aim = {"slo.attainment": result.slo} if slo is not None and slo.attainment != result.slo else {}
    after = patched(before, aim | dict(verdict.trial.values), _comment(verdict, result, trace))
    return PolicyChange(file, before, after)


def _relative(path: Path, root: Path) -> str:
    whole, top = path.resolve(), root.resolve()
    return str(whole.relative_to(top)) if whole.is_relative_to(top) else path.name


def _comment(verdict: Verdict, result: TuneResult, trace: str) -> list[str]:
    """Return the expected effect of the change, for the comment above it."""
    after = verdict.holdout
    savings = after.savings(result.holdout)
    low, high = -max(savings), -min(savings)
    spread = f"{min(after.attainments):.3%} to {max(after.attainments):.3%}"
    cost = f"Tuned on {trace}. On the held-out part: cost {low:+.1%} to {high:+.1%} over {result.seeds} seeds,"
    share = f"{after.attainment:.3%} within the SLO ({spread}), before {result.holdout.attainment:.3%}."
    return [cost, share]


def _write(path: Path, change: PolicyChange | None) -> None:
    if change is None:
        typer.echo(f"nothing is recommended; {path} is not written", err=True)
        return
    text = change.after if path.suffix in (".yaml", ".yml") else change.patch
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise option_error("--output", f"{path} cannot be written: {error.strerror}") from None
    typer.echo(f"changes: {path}", err=True)


def as_json(result: TuneResult, diff: str) -> dict[str, Any]:
    """Return the result as `--format json` prints it."""
    return {
        "slo": result.slo,
        "train_seconds": list(result.train_seconds),
        "holdout_seconds": list(result.holdout_seconds),
        "policy": {"train": _figures(result.train), "holdout": _figures(result.holdout)},
        "trials": len(result.trials),
        "pareto_front": [_trial(trial) for trial in result.front],
        "candidates": [_verdict(verdict, result) for verdict in result.verdicts],
        "recommended": None if result.recommended is None else _verdict(result.recommended, result),
        "patch": diff or None,
    }


def _figures(figures: SeedFigures) -> dict[str, Any]:
    return {
        "slo_attainment": figures.attainment,
        "cost_usd": figures.cost_usd,
        "cost_ratio_to_clairvoyant": figures.ratio,
        "slo_attainment_by_seed": list(figures.attainments),
        "cost_usd_by_seed": list(figures.costs_usd),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {"values": dict(trial.values), "train": _figures(trial.train)}


def _verdict(verdict: Verdict, result: TuneResult) -> dict[str, Any]:
    return {
        **_trial(verdict.trial),
        "holdout": _figures(verdict.holdout),
        "saving_by_seed": list(verdict.holdout.savings(result.holdout)),
        "accepted": verdict.accepted,
        "why": verdict.why,
    }


def _print(result: TuneResult, diff: str, output: options.Format) -> None:
    from gpu_fleet.reports.tune_page import verdict_lines

    if output is options.Format.JSON:
        typer.echo(json.dumps(as_json(result, diff), indent=2, allow_nan=False))
        return
    console = wide_console()
    console.print(_front_table(result))
    for line in verdict_lines(result):
        console.print(line, highlight=False, soft_wrap=True)
    if diff:
        console.print()
        console.print(diff, markup=False, highlight=False, soft_wrap=True)


def _front_table(result: TuneResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from gpu_fleet.reports.tune_page import values_text

    table = Table(box=None, header_style="bold", title="Pareto front in training", title_justify="left")
    for title in ("USD", "of clairvoyant", "within SLO"):
        table.add_column(title, justify="right")
    table.add_column("changes")
    for trial in result.front:
        table.add_row(
            f"{trial.train.cost_usd:,.2f}",
            f"{trial.train.ratio:.3f}",
            f"{trial.train.attainment:.3%}",
            escape(values_text(trial.values)),
            style=None if trial.train.attainment >= result.slo else "dim",
        )
    return table
