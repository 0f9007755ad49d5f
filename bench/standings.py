"""Where a policy stands among its rivals: the targets that it is held to, trace by trace, as a table for the docs.

The targets: SLO attained at a cost of at most `MOST_RATIO` times the clairvoyant fleet's without boot, on every trace;
`LEAST_SAVING` cheaper than the best tuned target tracking, in the median over traces; dearer than no contender that
attains as much. A contender attains as much when it meets the SLO, or does at least as well as the policy did.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_fleet.backtest.backtest import Run
from gpu_fleet.reports.compare_page import Line, lines

MOST_RATIO = 1.30
LEAST_SAVING = 0.25
TARGET_TRACKING = "target-tracking"
HEADING = (
    "| trace | within SLO | times clairvoyant (seeds) | boot paid | tuned target tracking | less than it "
    "| cheaper contenders that attain as much |"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """One trace: means over the seeds."""

    trace: str
    ours: Line
    target: float
    """Attainment asked for."""
    tracking: Line | None
    """The cheapest tuned target tracking, on whatever signal, that attains as much; None where none does."""
    cheaper: tuple[Line, ...]
    """Contenders that attain as much and cost less."""
    ratio_low: float
    ratio_high: float
    """Over the seeds."""
    with_boot: float
    """Times the clairvoyant fleet that pays for its boots."""

    @property
    def near_bound(self) -> bool:
        """Whether the first target is reached."""
        return self.ours.slo_attainment >= self.target and self.ours.ratio <= MOST_RATIO

    @property
    def saving(self) -> float | None:
        """Against target tracking; None where none attains as much."""
        return None if self.tracking is None else 1 - self.ours.cost_usd / self.tracking.cost_usd


def standings(runs: Sequence[Run]) -> list[Standing]:
    """One for each trace, in their order. Raises ValueError where the policy itself did not run."""
    found: list[Standing] = []
    for trace in dict.fromkeys(run.trace for run in runs):
        of_trace = [run for run in runs if run.trace == trace]
        everyone = lines(of_trace)
        ours = next((line for line in everyone if line.ours), None)
        if ours is None:
            raise ValueError(f"{trace}: the policy itself did not run")
        mine = [run for run in of_trace if run.candidate.name == ours.contender]
        target = of_trace[0].target
        least = min(target, ours.slo_attainment)
        rivals = [line for line in everyone if not line.ours and line.slo_attainment >= least]
        tuned = {run.candidate.name for run in of_trace if run.candidate.tuned}
        tracking = [line for line in rivals if line.contender in tuned and line.contender.startswith(TARGET_TRACKING)]
        found.append(
            Standing(
                trace=trace,
                ours=ours,
                target=target,
                tracking=min(tracking, key=lambda line: line.cost_usd, default=None),
                cheaper=tuple(line for line in rivals if line.cost_usd < ours.cost_usd * (1 - 1e-9)),
                ratio_low=min(run.ratio for run in mine),
                ratio_high=max(run.ratio for run in mine),
                with_boot=statistics.fmean(run.result.cost_usd / run.clairvoyant_with_boot_usd for run in mine),
            )
        )
    return found


def median_saving(found: Sequence[Standing]) -> float | None:
    """Against target tracking, over the traces on which one attains as much; None where there is none."""
    savings = [one.saving for one in found if one.saving is not None]
    return statistics.median(savings) if savings else None


def markdown(found: Sequence[Standing]) -> str:
    """The table and the three verdicts, as they stand in docs/results.md."""
    near = [one for one in found if one.near_bound]
    saving = median_saving(found)
    without = [one.trace for one in found if one.tracking is None]
    undercut = [one for one in found if one.cheaper]
    said = "none to compare with" if saving is None else f"{saving:.0%}"
    count = len(found)
    bound = f"- SLO met at no more than {MOST_RATIO:.2f} times the clairvoyant fleet: {len(near)} of {count} traces"
    tracking = f"- less than the best tuned target tracking, median: {said}, asked {LEAST_SAVING:.0%}"
    nobody = f"; on {', '.join(without)} no target tracking attains as much" if without else ""
    dearer = f"- dearer than a contender that attains as much: on {len(undercut)} of {count} traces"
    return "\n".join(
        [
            HEADING,
            "|---|---|---|---|---|---|---|",
            *(_row(one) for one in found),
            "",
            f"{bound} ({_verdict(len(near) == count)})",
            f"{tracking} ({_verdict(saving is not None and saving >= LEAST_SAVING)}){nobody}",
            f"{dearer} ({_verdict(not undercut)})",
        ]
    )


def _verdict(reached: bool) -> str:  # noqa: FBT001  (the one thing it says)
    return "reached" if reached else "not reached"


def _row(one: Standing) -> str:
    tracking = "none attains" if one.tracking is None else f"{one.tracking.contender} at {one.tracking.target}"
    saving = "" if one.saving is None else f"{one.saving:.0%}"
    cheaper = ", ".join(f"{line.contender} ({line.ratio:.2f})" for line in one.cheaper) or "none"
    mark = "" if one.near_bound else " (not reached)"
    return (
        f"| {one.trace} | {one.ours.slo_attainment:.3%} | {one.ours.ratio:.3f} "
        f"({one.ratio_low:.3f} to {one.ratio_high:.3f}){mark} | {one.with_boot:.3f} | {tracking} | {saving} "
        f"| {cheaper} |"
    )
