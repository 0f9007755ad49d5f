"""The article's three quantities: utilisation U, response time T and ratio R (part 4)."""

from collections.abc import Sequence
from operator import truediv


def utilization(loads: Sequence[float], capacities: Sequence[float]) -> float:
    """Return U = sum of L_i / C_i, in full instances: 0 is idle, n is n full instances.

    Source: the article, 4.2.1. Raises ValueError when the two differ in length or a capacity is not positive.
    """
    _same_length("loads", loads, capacities)
    return sum(map(truediv, loads, _positive(capacities)))


def response_time(queues: Sequence[float], capacities: Sequence[float]) -> float:
    """Return T = (1/n) * sum of Q_i / C_i, Q_i the requests that wait or are in service at instance i.

    At 1.0 each instance holds just what it can carry; without instances T is 0. Source: the article, 4.2.2.
    Raises as `utilization` does.
    """
    _same_length("queues", queues, capacities)
    if not capacities:
        return 0.0
    return utilization(queues, capacities) / len(capacities)


def ratio(utilization: float, limit: float) -> float:
    """Return R = U / U_max, U_max = n * target utilisation; above 1 the service is too small.

    Source: the article, 4.2.3. A limit of 0 (no instance) gives 0 without load and infinity with it.
    Raises ValueError for a negative limit.
    """
    if limit < 0:
        raise ValueError(f"limit: must not be negative (got {limit})")
    if limit == 0:
        return 0.0 if utilization == 0 else float("inf")
    return utilization / limit


def _same_length(name: str, values: Sequence[float], capacities: Sequence[float]) -> None:
    if len(values) != len(capacities):
        raise ValueError(f"{name}: must be as many as capacities (got {len(values)} and {len(capacities)})")


def _positive(capacities: Sequence[float]) -> Sequence[float]:
    if min(capacities, default=1) <= 0:
        i, capacity = next((i, capacity) for i, capacity in enumerate(capacities) if capacity <= 0)
        raise ValueError(f"capacities[{i}]: must be above 0 (got {capacity})")
    return capacities
