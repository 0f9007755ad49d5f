"""How a policy compares with its rivals on each trace, against four targets, as a table for the docs.

The targets: the SLO at a cost of at most `MOST_RATIO` times the clairvoyant fleet's without boot, and of at most
`MOST_SLO_RATIO` times that of the cheapest clairvoyant fleet that keeps the SLO in the simulator, on every trace;
`LEAST_SAVING` cheaper than the best tuned target tracking, in the median over traces; never dearer than a contender
that attains as much. A contender attains as much if it meets the SLO, or does at least as well as the policy.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_fleet.backtest.run import Run
from gpu_fleet.reports.compare_page import Line, lines

MOST_RATIO = 1.30
MOST_SLO_RATIO = 1.15
LEAST_SAVING = 0.25
TARGET_TRACKING = "target-tracking"
HEADING = (
    "| trace | within SLO | times clairvoyant (seeds) | boot paid | times one that keeps the SLO "
    "| tuned target tracking | less than it | cheaper contenders that attain as much |"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """The policy and its rivals on one trace: means over the seeds."""

    trace: str
    ours: Line
    target: float
    """The attainment to reach."""
    tracking: Line | None
    """The cheapest tuned target tracking, on any signal, that attains as much, if one does."""
    cheaper: tuple[Line, ...]
    """Contenders that attain as much and cost less."""
    ratio_low: float
    ratio_high: float
    """Over the seeds."""
    with_boot: float
    """Times the clairvoyant fleet that pays for its boots."""

    @property
    def near_slo_bound(self) -> bool:
        """Whether the policy reaches the second target."""
        ratio = self.ours.slo_ratio
        return self.ours.slo_attainment >= self.target and ratio is not None and ratio <= MOST_SLO_RATIO

    @property
    def near_bound(self) -> bool:
        """Whether the policy reaches the first target."""
        return self.ours.slo_attainment >= self.target and self.ours.ratio <= MOST_RATIO

    @property
    def saving(self) -> float | None:
        """Share saved against target tracking; None if none attains as much."""
        return None if self.tracking is None else 1 - self.ours.cost_usd / self.tracking.cost_usd


def standings(runs: Sequence[Run]) -> list[Standing]:
    """Return a standing for each trace, in their order. Raises ValueError if the policy itself did not run."""
    result: list[Standing] = []
    for trace in dict.fromkeys(run.trace for run in runs):
        of_trace = [run for run in runs if run.trace == trace]
        contenders = lines(of_trace)
        ours = next((line for line in contenders if line.ours), None)
        if ours is None:
            raise ValueError(f"{trace}: the policy itself did not run")
        own_runs = [run for run in of_trace if run.entrant.name == ours.contender]
        target = of_trace[0].target
        least = min(target, ours.slo_attainment)
        rivals = [line for line in contenders if not line.ours and line.slo_attainment >= least]
        tuned = {run.entrant.name for run in of_trace if run.entrant.tuned}
        tracking = [line for line in rivals if line.contender in tuned and line.contender.startswith(TARGET_TRACKING)]
        result.append(
            Standing(
                trace=trace,
                ours=ours,
                target=target,
                tracking=min(tracking, key=lambda line: line.cost_usd, default=None),
                cheaper=tuple(line for line in rivals if line.cost_usd < ours.cost_usd * (1 - 1e-9)),
                ratio_low=min(run.ratio for run in own_runs),
                ratio_high=max(run.ratio for run in own_runs),
                with_boot=statistics.fmean(run.result.cost_usd / run.clairvoyant_with_boot_usd for run in own_runs),
            )
        )
    return result


def median_saving(traces: Sequence[Standing]) -> float | None:
    """Return the median saving against target tracking over the traces on which one attains as much, if any."""
    savings = [standing.saving for standing in traces if standing.saving is not None]
    return statistics.median(savings) if savings else None


def markdown(traces: Sequence[Standing]) -> str:
    """Return the table and the verdicts, as docs/results.md shows them."""
    near = [standing for standing in traces if standing.near_bound]
    saving = median_saving(traces)
    near_slo = [standing for standing in traces if standing.near_slo_bound]
    unmatched = [standing.trace for standing in traces if standing.tracking is None]
    undercut = [standing for standing in traces if standing.cheaper]
    saving_text = "none to compare with" if saving is None else f"{saving:.0%}"
    count = len(traces)
    bound = f"- SLO met at no more than {MOST_RATIO:.2f} times the clairvoyant fleet: {len(near)} of {count} traces"
    slo_bound = f"- SLO met at no more than {MOST_SLO_RATIO:.2f} times the clairvoyant fleet that keeps it"
    tracking = f"- less than the best tuned target tracking, median: {saving_text}, target {LEAST_SAVING:.0%}"
    exceptions = f"; on {', '.join(unmatched)} no target tracking attains as much" if unmatched else ""
    dearer = f"- dearer than a contender that attains as much: on {len(undercut)} of {count} traces"
    return "\n".join(
        [
            HEADING,
            "|---|---|---|---|---|---|---|---|",
            *(_row(standing) for standing in traces),
            "",
            f"{bound} ({_verdict(len(near) == count)})",
            f"{slo_bound}: {len(near_slo)} of {count} traces ({_verdict(len(near_slo) == count)})",
            f"{tracking} ({_verdict(saving is not None and saving >= LEAST_SAVING)}){exceptions}",
            f"{dearer} ({_verdict(not undercut)})",
        ]
    )


def _verdict(reached: bool) -> str:  # noqa: FBT001  (its only argument)
    return "reached" if reached else "not reached"


def _row(standing: Standing) -> str:
    ours = standing.ours
    rival = standing.tracking
    tracking = "none attains" if rival is None else f"{rival.contender} at {rival.target}"
    saving = "" if standing.saving is None else f"{standing.saving:.0%}"
    slo_ratio = "unknown" if ours.slo_ratio is None else f"{ours.slo_ratio:.3f}"
    cheaper = ", ".join(f"{line.contender} ({line.ratio:.2f})" for line in standing.cheaper) or "none"
    mark = "" if standing.near_bound else " (not reached)"
    return (
        f"| {standing.trace} | {ours.slo_attainment:.3%} | {ours.ratio:.3f} "
        f"({standing.ratio_low:.3f} to {standing.ratio_high:.3f}){mark} | {standing.with_boot:.3f} | {slo_ratio} "
        f"| {tracking} | {saving} | {cheaper} |"
    )
