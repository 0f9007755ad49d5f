"""How far an instance may be used, in the simulator and in the model, under traffic whose rate stands still.

python -m bench.bench_sizing [--policy chat] [--types g6.xlarge ...] [--mixes conv ...] [--instances 1 ...]
                             [--burstiness 1 ...] [--requests 300000] [--json FILE]

A static fleet of one pool serves requests of a trace's lengths, drawn one by one; a search finds the share of
`throughput_rps` at which it misses each budget. Beside it stands `gpu_fleet.scaling.sizing.usable_share` for the
burstiness that `gpu_fleet.scaling.demand` would measure: the variance of counts of 10 seconds over their mean, around
the minute. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.backtest.setting import merged_profile
from gpu_fleet.config.composition import pool
from gpu_fleet.config.library import Library
from gpu_fleet.config.settings import PoolSettings
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.scaling.policy import Policy, Request
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.sizing import TAIL_BUDGET, usable_share
from gpu_fleet.simulator.simulation import Engine, Simulation
from gpu_fleet.traffic import Trace, read
from gpu_fleet.traffic.arrivals import arrivals
from gpu_fleet.traffic.tokens import ANSWERS, PROMPTS, TokenLengths

ROOT = Path(__file__).resolve().parent.parent
TYPES = ("g6.xlarge", "g5.xlarge", "g6e.xlarge", "p5.4xlarge")
"""One of each class with a single GPU."""
MIXES = {
    "conv": "azure_llm_2023_conv.csv",
    "code": "azure_llm_2023_code.csv",
    "long": "mooncake_conversation.csv",
}
"""Trace from which each mix draws its lengths."""
DRAWN = "~"
"""conv~ has lognormal lengths of the same means, as `gpu_fleet.traffic` draws them for a trace of rates."""
COUNTS = (1, 2, 4, 8, 16, 32)
BURSTINESS = (1.0, 2.0, 3.45)
"""Coefficient of variation of the times between arrivals; 3.45 is ServeGen's."""
LEAST_SHARE, MOST_SHARE = 0.01, 1.2
EXACT = 0.003
"""The search ends when the share is known to this part of itself."""
BATCHES = 40
"""Requests to measure, at least, in batches of the whole fleet: the number in flight changes that slowly."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Case:
    """One pool under one kind of traffic."""

    type: str
    mix: str
    instances: int
    burstiness: float


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of `throughput_rps` at which a budget is missed."""

    budget: float
    simulated: float
    modelled: float
    dispersion: float

    @property
    def off_percent(self) -> float:
        """How far the model is above the simulator, of what the simulator says."""
        return 100 * (self.modelled / self.simulated - 1)


@cache
def lengths(mix: str) -> tuple[Floats, Floats]:
    """Return prompt and answer lengths of a mix [n]."""
    if mix.endswith(DRAWN):
        random = np.random.default_rng(1)
        means = [float(recorded.mean()) for recorded in lengths(mix.removesuffix(DRAWN))]
        return _drawn(PROMPTS, means[0], random), _drawn(ANSWERS, means[1], random)
    folder = Path(os.environ.get("GPU_FLEET_SHARED") or ROOT.parent / "shared") / "traces"
    trace = read(folder / MIXES[mix])
    assert isinstance(trace, Trace)
    return trace.input_tokens, trace.output_tokens


def _drawn(shape: TokenLengths, mean: float, random: np.random.Generator) -> Floats:
    scale = mean / float(shape.draw(100_000, np.random.default_rng(0)).mean())
    return replace(shape, median=shape.median * scale, longest=shape.longest * scale).draw(100_000, random)


class Bench:
    """One pool under one kind of traffic, simulated at any share of its throughput."""

    def __init__(self, library: Library, policy_name: str, case: Case, requests: int, seed: int = 0) -> None:
        self.case = case
        inputs, outputs = lengths(case.mix)
        request = Request(input_tokens=float(inputs.mean()), output_tokens=float(outputs.mean()))
        self.policy: Policy = library.policies[policy_name].model_copy(update={"request": request})
        library = replace(library, policies={policy_name: self.policy})
        self.pool: Pool = pool("one", PoolSettings(types=(case.type,), min=0, max=1), policy_name, library)
        self._engine = Engine.of(merged_profile(self.pool))
        count = requests + int(BATCHES * case.instances * self.pool.capacity)
        random = np.random.default_rng(seed)
        self._points = arrivals(np.array([float(count)]), 1.0, case.burstiness, random)
        drawn = random.integers(0, len(inputs), len(self._points))
        self._inputs, self._outputs = inputs[drawn], outputs[drawn]
        self._count = count
        self._known: dict[float, float] = {}

    def missed(self, share: float) -> float:
        """Return the part of the requests outside the SLO at a share of the throughput, after a tenth to warm up."""
        if share not in self._known:
            at = self._points * self._seconds(share)
            simulation = Simulation([self._engine], slo=self.policy.slo)
            for _ in range(self.case.instances):
                simulation.join(0)
            tenth = len(at) // 10
            simulation.run(float(at[tenth]), at, self._inputs, self._outputs)
            simulation.window()
            simulation.run(float(np.nextafter(at[-1], np.inf)), *(x[tenth:] for x in (at, self._inputs, self._outputs)))
            total = simulation.window().total
            self._known[share] = 1 - total.attained / max(1, total.ended)
        return self._known[share]

    def share(self, budget: float) -> float:
        """Return the share of the throughput at which `budget` is missed; misses rise with the share."""
        known = sorted(share for share, miss in self._known.items() if miss <= budget)
        low = known[-1] if known else LEAST_SHARE
        high = min((share for share, miss in self._known.items() if miss > budget), default=MOST_SHARE)
        while high - low > EXACT * high:
            middle = (low + high) / 2 if low > 0.2 * high else math.sqrt(low * high)
            low, high = (middle, high) if self.missed(middle) <= budget else (low, middle)
        return (low + high) / 2

    def dispersion(self, share: float) -> float:
        """Return variance over mean of counts of 10 s around their minute, as `demand` measures it."""
        at = self._points * self._seconds(share)
        minutes = int(at[-1] // 60)
        counts = np.bincount((at[at < 60 * minutes] // 10).astype(int), minlength=6 * minutes).reshape(minutes, 6)
        expected = counts.mean(axis=1, keepdims=True)
        counted = expected[:, 0] >= 1
        if not counted.any():
            return 1.0
        return 6 / 5 * float(np.mean((counts - expected)[counted] ** 2 / expected[counted]))

    def _seconds(self, share: float) -> float:
        return self._count / (share * self.case.instances * self.pool.throughput_rps)

    def modelled(self, budget: float, dispersion: float) -> float:
        """Return the model's share."""
        return usable_share(self.pool, self.policy, self.case.instances, dispersion, budget)


def measure(
    library: Library, policy_name: str, case: Case, budgets: Sequence[float], requests: int
) -> Iterator[Shares]:
    """Yield the shares of a case at each budget."""
    bench = Bench(library, policy_name, case, requests)
    for budget in budgets:
        share = bench.share(budget)
        dispersion = bench.dispersion(share)
        yield Shares(budget, share, bench.modelled(budget, dispersion), dispersion)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policy", default="chat")
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--mixes", nargs="+", default=[*MIXES, *(f"{mix}{DRAWN}" for mix in MIXES)])
    parser.add_argument("--instances", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--burstiness", type=float, nargs="+", default=BURSTINESS)
    parser.add_argument("--requests", type=int, default=300_000)
    parser.add_argument("--json", type=Path, help="also write every share to this file")
    return parser.parse_args()


def main() -> None:
    given = options()
    library = read_library(ROOT)
    budgets = (library.policies[given.policy].wait_budget, TAIL_BUDGET)
    titles = ("type", "mix", "instances", "burstiness", "variance/mean", "budget", "simulated", "model", "off")
    sys.stdout.write(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|\n")
    rows = []
    for each in product(given.types, given.mixes, given.instances, given.burstiness):
        case = Case(*each)
        for shares in measure(library, given.policy, case, budgets, given.requests):
            sys.stdout.write(
                f"| {case.type} | {case.mix} | {case.instances} | {case.burstiness:g} | {shares.dispersion:.2f} "
                f"| {shares.budget:.2%} | {shares.simulated:.3f} | {shares.modelled:.3f} "
                f"| {shares.off_percent:+.1f} % |\n"
            )
            rows.append(asdict(case) | asdict(shares))
        sys.stdout.flush()
        if given.json:
            given.json.write_text(json.dumps(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
