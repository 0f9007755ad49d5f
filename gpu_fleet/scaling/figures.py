"""The article's U, T and R of a decision (its part 4), from what sizing uses.

U is the work that must be carried, in full instances; U_max what the instances that are there or coming may carry of
it: n times the share that sizing allows (`sizing.target_utilization`, or what the SLO allows), and the tolerance. So
R = U / U_max above 1 is the guard's rule for scaling out, in both modes. T is measured: the mean queue of a ready
instance. Worked: 5 instances that may be used to 80 % with a tolerance of 5 % have U_max = 4.2; work for 4.5 full
instances is R = 1.07, and one more is ordered.
"""

from __future__ import annotations

from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.model import ratio, utilization


def work_utilization(required_rps: float, fleet: Fleet) -> float:
    """Return U: the work that must be carried, in full instances of the mean kind that stands."""
    return utilization([required_rps], [fleet.full_rps])


def work_ratio(u: float, fleet: Fleet, tolerance_percent: float) -> float:
    """Return R = U / U_max; infinite where work must be carried and nothing stands."""
    return ratio(u, fleet.standing_rps * (1 + tolerance_percent / 100) / fleet.full_rps)
