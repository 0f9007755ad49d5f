"""Queueing: how often a request waits too long, and how full a batch may be on average.

Both formulas take into account that a part-full instance works faster than a full one (`gpu_fleet.scaling.profile`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpu_fleet.scaling.profile import load_share

LEAST_PROBABILITY = 1e-9
"""Smaller probabilities make no difference."""
SERVICE_SCV = 1.0
"""Squared coefficient of variation of the service times: that of an exponential."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A G/G/n queue, first come, first served.

    `offered` is arrival rate * service_seconds: the servers that the arrivals need (Erlangs). With rho = offered /
    servers,

        P(wait > t) = P(all busy) * exp(-2 * n/service * (1-rho) * t / (scv + scv_of_service))

    P(all busy) is Erlang C: the exponential form of W. Whitt, "Approximations for the GI/G/m queue", Production and
    Operations Management 2(2), 1993. Two additions: arrivals burstier than Poisson are pooled less well, so servers and
    offered are divided by scv (Hayward's approximation: A. A. Fredericks, "Congestion in blocking systems", BSTJ 59,
    1980); and with `slowdown` s > 1 a server of a part-full system is faster: k of n busy servers do the share
    x*s/(1+(s-1)*x), x = k/n, of the work that all n do.
    M/M/2 with offered 1: P(all busy) is 1/3, and P(wait > 1 service time) = exp(-1)/3 = 0.123.
    """

    servers: float
    service_seconds: float
    """Time in service while all servers are busy."""
    scv: float
    """Variance of the arrivals over their mean; 1 is Poisson."""
    slowdown: float = 1.0

    def wait_probability(self, offered: float, limit_seconds: float) -> float:
        """Return P(wait > limit_seconds)."""
        if offered <= 0:
            return 0.0
        if offered >= self.servers:
            return 1.0
        return self._wait_probability_when_busy(offered, limit_seconds) * self._all_busy(offered)

    def keeps_wait_within(self, offered: float, limit_seconds: float, probability: float) -> bool:
        """Whether `wait_probability` is at most `probability`: the same answer at a part of the cost.

        With many servers one is soon free even when all are busy; then it does not matter how often all are.
        """
        if offered <= 0:
            return True
        if offered >= self.servers:
            return probability >= 1
        when_busy = self._wait_probability_when_busy(offered, limit_seconds)
        if when_busy <= probability:
            return True
        allowed = probability / when_busy
        return self._all_busy(offered, allowed) <= allowed

    def _wait_probability_when_busy(self, offered: float, limit_seconds: float) -> float:
        decay = 2 * self.servers / self.service_seconds * (1 - offered / self.servers) / (self.scv + SERVICE_SCV)
        return math.exp(-decay * limit_seconds)

    def _all_busy(self, offered: float, least: float = LEAST_PROBABILITY) -> float:
        """P(all busy), rho < 1: the states below n weigh `below` times as much as state n, those from n on 1/(1-rho).

        State k-1 weighs (work done by k busy servers) / (work that arrives) times as much as state k. The sum runs
        downwards from n until nothing more is added, in strides of a quarter of the standard deviation of the number in
        service (one state each up to about 16 servers, which is exact), so that 51,200 servers take as long as 50.
        Of a result below `least` only that is certain, not its value.
        """
        n = math.floor(max(1.0, self.servers / max(1.0, self.scv)))
        rho = offered / self.servers
        if n == 1:
            return rho  # the result of the sum below
        x, bend, full = load_share(rho, self.slowdown), self.slowdown - 1, self.slowdown / rho
        stride = max(1, math.floor(math.sqrt(n * x * (1 + bend * x)) / 4))
        enough = (1 / max(least, LEAST_PROBABILITY) - 1) / (1 - rho) / stride
        terms, term = 0.0, 1.0
        for k in range(n, 0, -stride):
            h = min(k, stride)
            x = (k - (h - 1) / 2) / n
            term *= (x * full / (1 + bend * x)) ** h
            terms += term
            if term < 1e-4 * terms or terms > enough:
                break
        below = stride * (terms + 0.5) - 0.5  # trapezoids; with stride 1 just the sum
        return 1 / (1 + (1 - rho) * below)


def share_in_flight(limit: float, slowdown: float, scv: float, z: float) -> float:
    """Return the mean number in flight, over `limit`, that passes `limit` with the probability of normal quantile z.

    Arrivals at rate l into a batch that completes b/(A+B*b) requests per second make a birth and death chain whose
    number in flight is negative binomial. With the share x = l*A/(1-l*B) / limit, at which completions equal arrivals,
    and the stretch 1/(1-l*B) = 1+(s-1)x, s = 1+B*limit/A, its mean is x*limit + (s-1)x and its variance the stretch
    times that. This holds for any answer lengths, since a batch shares its processor (F. P. Kelly, "Reversibility and
    Stochastic Networks", 1979, chapter 3). Arrivals burstier than Poisson multiply the variance, and with it what the
    bend of the completion rate adds to the mean: d = scv * stretch is variance over mean m = (limit + scv*(s-1))*x. The
    skew of the negative binomial, (2*d-1)/sigma, enters by the first Cornish-Fisher term; without it small pools look
    safer than they are: 26 in flight at d = 2.6 pass 54 with probability 0.0025, the normal quantile says 49.

        m + z*sqrt(m*d) + (2*d-1) * (z^2-1)/6 = limit        (the last term from z = 1 on)

    is a quadratic equation in x once the square root stands alone.
    """
    skew = (z * z - 1) / 6 if z > 1 else 0.0
    room, per_share = limit - skew * (2 * scv - 1), limit + scv * (slowdown - 1)
    if room <= 0:
        return 0.0
    slope = per_share + 2 * skew * scv * (slowdown - 1)
    spread = z * z * per_share * scv
    root = math.sqrt(spread * (spread + 4 * room * (slope + (slowdown - 1) * room)))
    half = 2 * slope * room + spread + math.copysign(root, z)  # one of the two solutions belongs to z, the other to -z
    return 2 * room**2 / half if half > 0 else 1.0
