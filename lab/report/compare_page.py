"""The report of `gpu-fleet compare` and `gpu-fleet backtest`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.backtest import Run, Setting
from lab.contenders import roster


@dataclass(frozen=True, slots=True)
class Line:
    """One contender on one trace: means over the seeds."""

    contender: str
    ours: bool
    slo_attainment: float
    attainment_low: float
    attainment_high: float
    meets_slo: bool
    cost_usd: float
    cost_low_usd: float
    cost_high_usd: float
    ratio: float
    gpu_hours: float
    p95_ttft_seconds: float | None
    lost: float
    rejected: float
    scale_events: float
    target: str
    """Pool and target share, by seed where they differ."""


def lines(runs: Sequence[Run]) -> list[Line]:
    """The contenders of one trace, ours first, then those that meet the SLO by cost, then the others by attainment."""
    found = [_line([run for run in runs if run.candidate.name == name]) for name in
             dict.fromkeys(run.candidate.name for run in runs)]  # fmt: skip
    return sorted(found, key=lambda line: (not line.ours, not line.meets_slo, line.cost_usd if line.meets_slo
                                           else -line.slo_attainment))  # fmt: skip


def _line(runs: Sequence[Run]) -> Line:
    shares = [run.result.slo_attainment for run in runs]
    costs = [run.result.cost_usd for run in runs]
    ttfts = [run.result.p95_ttft_seconds for run in runs if run.result.p95_ttft_seconds is not None]
    targets = dict.fromkeys(
        f"{run.candidate.pool} {run.candidate.share:g}" for run in runs if run.candidate.share is not None
    )
    mean = _mean(shares)
    return Line(
        contender=runs[0].candidate.name,
        ours=runs[0].candidate.rule == roster.OURS,
        slo_attainment=mean,
        attainment_low=min(shares),
        attainment_high=max(shares),
        meets_slo=mean >= runs[0].target,
        cost_usd=_mean(costs),
        cost_low_usd=min(costs),
        cost_high_usd=max(costs),
        ratio=_mean([run.ratio for run in runs]),
        gpu_hours=_mean([run.result.gpu_hours for run in runs]),
        p95_ttft_seconds=_mean(ttfts) if ttfts else None,
        lost=_mean([run.result.lost for run in runs]),
        rejected=_mean([run.result.rejected for run in runs]),
        scale_events=_mean([run.result.scale_events for run in runs]),
        target=" / ".join(targets),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
