"""Hash routing: each client's header ends in a digit, and each digit has its pool (the article's static strategy).

The pools lie side by side on the interval from 0 to 1, in the order of their names, each as long as its share; digit d
of 16 covers [d/16, (d+1)/16). A digit inside one pool sends all its clients there; one on a boundary shares them. So
the shares are met exactly, and a change of shares moves only the clients beside a boundary. With weights a 500 and
b 500, digits 0 to 7 go to a and 8 to f to b; with a 530, digit 8 is shared, 48 % to a.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpu_fleet.scaling.policy import MAX_WEIGHT

DIGITS = "0123456789abcdef"
"""Last characters of a header's value that hashing knows: a UUID or a hash in hexadecimal ends in each equally often.
A load balancer compares them without regard to case."""


def digit_weights(weights: Mapping[str, int]) -> tuple[Mapping[str, int], ...]:
    """Return the weights of the pools for each digit, from those of the whole service.

    If all of them are 0, so are those of every digit.
    """
    total = sum(weights.values())
    if not total:
        return tuple(dict(weights) for _ in DIGITS)
    ends: dict[str, tuple[float, float]] = {}
    start = 0.0
    for name in sorted(weights):
        ends[name] = (start, start + weights[name] * len(DIGITS) / total)
        start = ends[name][1]
    return tuple(_of_digit(digit, ends, list(weights)) for digit in range(len(DIGITS)))


def _of_digit(digit: int, ends: Mapping[str, tuple[float, float]], names: list[str]) -> Mapping[str, int]:
    """Return one digit's weights by what its interval shares with each pool's, rounded to `MAX_WEIGHT` in all."""
    exact = {name: MAX_WEIGHT * max(0.0, min(ends[name][1], digit + 1) - max(ends[name][0], digit)) for name in names}
    whole = {name: int(value + 1e-6) for name, value in exact.items()}
    by_remainder = sorted(names, key=lambda name: whole[name] - exact[name])
    for name in by_remainder[: MAX_WEIGHT - sum(whole.values())]:
        whole[name] += 1
    return whole
