"""Worst times of the mix on random and on adversarial inputs: `python bench/bench_mix.py`.

Five pools of up to 200 instances. Adversarial inputs have prices almost in proportion to work, so that no bound can
prune, or a quota that binds.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gpu_fleet.scaling import mix
from gpu_fleet.scaling.mix import PoolOption, cheapest, usd_per_hour
from gpu_fleet.scaling.mix_choice import MixProblem, MoveTerms, choose
from gpu_fleet.scaling.policy import Vertical

Case = tuple[list[PoolOption], float, Mapping[str, int], int]
ROUNDS = 300
REAL = [  # on-demand USD per hour, vCPUs, relative work: the shape of g6.xlarge, g5.xlarge, g6e.xlarge, p4d, p5
    (0.8048, 4, 1.0),
    (1.006, 4, 1.6),
    (1.861, 4, 3.4),
    (21.957, 96, 31.0),
    (55.04, 192, 80.0),
]


def _options(rng: random.Random, priced: Callable[[float], float], quota: str = "") -> list[PoolOption]:
    works = [rng.uniform(0.5, 20) for _ in range(5)]
    return [
        PoolOption(f"p{i}", w, priced(w), rng.choice([0, 0, 1]), 200, rng.choice([4, 8, 16, 48]), quota)
        for i, w in enumerate(works)
    ]


def _required(options: list[PoolOption], rng: random.Random) -> float:
    return rng.choice([0.02, 0.1, 0.5, 0.9]) * rng.random() * sum(option.instance_rps * 200 for option in options)


def real(rng: random.Random) -> Case:
    options = [
        PoolOption(f"p{i}", w * rng.uniform(0.6, 0.9), usd, 0, 200, vcpus, "p" if vcpus > 90 else "g")
        for i, (usd, vcpus, w) in enumerate(REAL)
    ]
    return options, rng.uniform(1, 300), {"g": rng.choice([64, 256, 2048]), "p": 768}, 2


def scattered(rng: random.Random) -> Case:
    options = _options(rng, lambda w: round(w * rng.uniform(0.5, 1.5), 4))
    return options, _required(options, rng), {}, rng.choice([0, 3])


def near_equal(rng: random.Random) -> Case:
    options = _options(rng, lambda w: w * rng.uniform(1, 1 + 1e-6))
    return options, _required(options, rng), {}, 0


def proportional(rng: random.Random) -> Case:
    options = [PoolOption(f"p{i}", 2.0**i, 1.1 * 2.0**i, 0, 200) for i in range(5)]
    return options, rng.uniform(1, 3000), {}, 2


def short_of_quota(rng: random.Random) -> Case:
    options = _options(rng, lambda w: w * rng.uniform(0.8, 1.2), "g")
    per_vcpu = sorted(option.instance_rps / option.vcpus for option in options)
    return options, 2000 * per_vcpu[-2] * rng.uniform(0.3, 1), {"g": 2000}, 0


def _gap(case: Case) -> float:
    """Return how much more the plan costs than that of a search 25 times as long, as a share."""
    plan = cheapest(*case)
    usual = mix.EXACT_NODES, mix.MOST_NODES
    mix.EXACT_NODES = mix.MOST_NODES = 25 * mix.MOST_NODES
    better = cheapest(*case)
    mix.EXACT_NODES, mix.MOST_NODES = usual
    if plan is None or better is None:
        return 0.0
    return usd_per_hour(case[0], plan) / max(1e-9, usd_per_hour(case[0], better)) - 1


def _moves(case: Case, rng: random.Random) -> Callable[[], Any]:
    current = {option.name: rng.randint(0, 20) for option in case[0]}
    terms = MoveTerms(Vertical(), {option.name: 300.0 for option in case[0]}, last_move_at=0, now=1e6)
    return lambda: choose(MixProblem(*case), current, terms)


def _timed(calls: Iterator[Callable[[], Any]]) -> list[float]:
    times = []
    for call in calls:
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)


def main() -> None:
    """Print a line for each input generator."""
    for make in (real, scattered, near_equal, proportional, short_of_quota):
        rng = random.Random(make.__name__)
        cases = [make(rng) for _ in range(ROUNDS)]
        for name, times in (
            ("cheapest", _timed((lambda case=case: cheapest(*case)) for case in cases)),
            ("choose", _timed(_moves(case, rng) for case in cases)),
        ):
            print(
                f"{make.__name__:15} {name:9} ms: median {statistics.median(times):7.3f}"
                f"  99 % {times[int(0.99 * len(times))]:8.3f}  worst {times[-1]:8.3f}"
            )
        print(f"{make.__name__:15} cost above a 25 times longer search's: at most {max(map(_gap, cases[:30])):.1e}")


if __name__ == "__main__":
    main()
