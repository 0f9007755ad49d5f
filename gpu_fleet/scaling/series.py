"""Series of metrics as CloudWatch has them, and what they say: rates, sums, the newest value that can be trusted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from gpu_fleet.scaling.observation import Reading

Series: TypeAlias = tuple[Reading, ...]
"""Readings of one metric, oldest first, each at the end of its period."""

MINUTE_SECONDS = 60
FINE_SECONDS = 10
HISTORY_SECONDS = 300

SETTLING_SECONDS = 60
"""For so long after its end a minute's sum may still grow: the load balancer's nodes report one by one."""
FINE_SETTLING_SECONDS = 30
"""For so long after its end an instance's 10 seconds may still be on their way."""
LEAST_OF_A_MINUTE = 3
"""A minute is known by at least half of its 10 seconds."""


def newest(series: Series, oldest: float) -> Reading | None:
    """The newest reading, if it is not older than `oldest`."""
    return series[-1] if series and series[-1].at >= oldest else None


def rates(count: Series, heartbeat: Series, period_seconds: int = MINUTE_SECONDS) -> Series:
    """Requests per second by period, from the counts.

    The load balancer publishes RequestCount only when it is not zero and HealthyHostCount whenever a target is
    registered. So a period with the latter alone had no requests, and a period with neither is unknown.
    """
    sums = {reading.at: reading.value for reading in count}
    ends = sorted(sums.keys() | {reading.at for reading in heartbeat})
    return tuple(Reading(sums.get(at, 0.0) / period_seconds, at) for at in ends)


def settled(series: Series, now: float, oldest: float) -> Reading | None:
    """The newest rate that can be trusted.

    A minute that ended just now may lack what some nodes of the load balancer have not reported. If it is below the
    minute before, that one counts: 600 requests, then 200 so far, is 10 rps until the minute has settled. A rise
    counts at once, since a sum only grows.
    """
    last = newest(series, oldest)
    if last is None or now - last.at >= SETTLING_SECONDS or len(series) == 1:
        return last
    before = series[-2]
    adjacent = last.at - before.at <= MINUTE_SECONDS
    return before if adjacent and before.value > last.value and before.at >= oldest else last


def total(parts: Sequence[Series]) -> Series:
    """Sum by period, over the periods that every part has."""
    if not parts:
        return ()
    known = [{reading.at: reading.value for reading in part} for part in parts]
    ends = sorted(set.intersection(*(set(part) for part in known)))
    return tuple(Reading(sum(part[at] for part in known), at) for at in ends)


def sum_of_known(parts: Sequence[Series]) -> Series:
    """Sum by period, over the parts that have it: a pool without a target then is no reason to forget the others."""
    sums: dict[float, float] = {}
    for part in parts:
        for reading in part:
            sums[reading.at] = sums.get(reading.at, 0.0) + reading.value
    return tuple(Reading(sums[at], at) for at in sorted(sums))


def complete_until(publishers: Series, now: float) -> float:
    """End of the newest 10 seconds that all instances have reported.

    A sum lacks those that are still to report: 4 of 10 would pass for a fall to 40 %, and the next run for a jump. So
    the newest 10 seconds wait while fewer have published than in those that have settled. Instances that have left
    publish no more; then the wait ends with the settling time.
    """
    counts = {reading.at: reading.value for reading in publishers}
    old = [at for at in counts if now - at >= FINE_SETTLING_SECONDS]
    least = counts[max(old)] if old else 0.0
    return max((at for at, count in counts.items() if now - at >= FINE_SETTLING_SECONDS or count >= least), default=now)


def last_minute(series: Series, oldest: float) -> Reading | None:
    """Mean over the newest minute of a series with finer periods."""
    last = newest(series, oldest)
    if last is None:
        return None
    values = _minute(series, last.at)
    return Reading(math.fsum(values) / len(values), last.at)


def minute_share(parts: Iterable[tuple[Series, Series]], oldest: float) -> Reading | None:
    """Share of a whole over its newest minute, from pairs of series: the whole, and the part of it that counts.

    Sum over sum, so that each pool weighs by what it counted: 1 late of 10 and 0 of 90 are 1 %, not the mean of 10 %
    and 0. A period for which only one series of a pair has a value is unknown. None where the newest known one is older
    than `oldest`, and where the whole of the minute is 0. At most 1.
    """
    known: list[tuple[float, float, float]] = []
    for whole, part in parts:
        values = {reading.at: reading.value for reading in part}
        known += [(reading.at, reading.value, values[reading.at]) for reading in whole if reading.at in values]
    end = max((at for at, _, _ in known), default=-math.inf)
    minute = [(whole, part) for at, whole, part in known if at > end - MINUTE_SECONDS]
    total = math.fsum(whole for whole, _ in minute)
    if end < oldest or total <= 0:
        return None
    return Reading(min(1.0, math.fsum(part for _, part in minute) / total), end)


def _minute(series: Series, end: float) -> list[float]:
    return [reading.value for reading in series if end - MINUTE_SECONDS < reading.at <= end]


def engine_arrivals(running: Series, waiting: Series, finished: Series, publishers: Series) -> Series:
    """Requests per second that reached a pool's engines, by 10 s: what arrives is what ends plus what piles up.

    No load balancer metric is finer than a minute, but the engines count their requests every 10 s. With N1, N2 in
    flight over two periods of d seconds and `finished` the rate at which requests ended in the second: finished +
    (N2 - N1) / d. At 10 rps and 300 in flight, 60 more within 10 s are 16 rps.
    Only where as many instances published in both periods: an instance that has joined or left in between would pass
    for requests that came or went. Nothing where the engines do not tell what ended: the load balancer's count in its
    place would be another count, of requests and not of answers.
    """
    in_flight = total([running, waiting])
    counts = {reading.at: reading.value for reading in publishers}
    ended = {reading.at: reading.value for reading in finished}
    found = []
    for before, last in itertools.pairwise(in_flight):
        seconds = last.at - before.at
        same = last.at in counts and counts[last.at] == counts.get(before.at)
        if same and last.at in ended and seconds <= 2 * FINE_SECONDS:
            found.append(Reading(ended[last.at] + (last.value - before.value) / seconds, last.at))
    return tuple(found)


def minute_of(parts: Sequence[Series], end: float) -> Reading | None:
    """Mean over the minute up to `end`, summed over the parts; None where more than half of it is missing of one.

    Each part by itself, so that a pool in which an instance has joined does not hide that time of the others.
    """
    minutes = [_minute(part, end) for part in parts]
    if not minutes or min(map(len, minutes)) < LEAST_OF_A_MINUTE:
        return None
    return Reading(max(0.0, sum(math.fsum(values) / len(values) for values in minutes)), end)


def dispersion(rates: Series, end: float) -> Reading | None:
    """Variance over mean of the counts in 10 s within the minute up to `end`; 1 on average for a Poisson process.

    The variance is the unbiased one, over n - 1: the mean is that of the same minute. None for less than one request
    in 10 s, and where more than half of the minute is missing.
    """
    counts = [FINE_SECONDS * rate for rate in _minute(rates, end)]
    if len(counts) < LEAST_OF_A_MINUTE:
        return None
    mean = math.fsum(counts) / len(counts)
    if mean < 1:
        return None
    return Reading(math.fsum((count - mean) ** 2 for count in counts) / (len(counts) - 1) / mean, end)


def latest_ends(now: float, period_seconds: int, count: int) -> set[float]:
    """Ends of the latest periods up to `now`."""
    end = math.floor(now / period_seconds) * period_seconds
    return {float(end - k * period_seconds) for k in range(count)}
