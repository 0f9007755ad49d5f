"""Speed of the serving simulator on one core, after compilation; --validate adds the tables of docs/simulator.md.

python bench/bench_simulator.py [--runs 5] [--requests 2000000] [--validate] [--profiles FOLDER]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.policy import Policy, Request, Slo
from gpu_fleet.scaling.profile import Profile, instance_capacity
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.simulator.drive import run
from gpu_fleet.simulator.simulated_fleet import BootTime, MachineModel
from gpu_fleet.simulator.simulation import Engine, Simulation
from gpu_fleet.simulator.world import World
from gpu_fleet.traffic.trace import RateTrace
from tests.simulator.validation import published, theory, whole_steps

PROFILE = Profile(
    prefill_base_seconds=0.01,
    prefill_tokens_per_second=8000,
    decode_base_seconds=0.02,
    decode_seconds_per_sequence=0.0006,
    kv_cache_tokens=200_000,
    max_sequences=256,
    compile_seconds=60,
    estimate=True,
    source="round figures of the order of an 8B model on one A10G",
)
SLO = Slo(ttft_seconds=2, tpot_seconds=0.05)


def kernel(pools: int, instances: int, requests: int) -> Callable[[], int]:
    """Return a run of arrivals, routing and completions: each instance at about two thirds of its capacity."""
    random = np.random.default_rng(0)
    at = np.cumsum(random.exponential(1 / (1.6 * pools * instances), requests))
    inputs, outputs = random.lognormal(6.5, 0.6, requests), random.lognormal(5, 0.6, requests)

    def one_run() -> int:
        simulation = Simulation([Engine.of(PROFILE)] * pools, slo=SLO)
        for pool in range(pools):
            for _ in range(instances):
                simulation.join(pool)
        # In windows, as a trace is streamed.
        step = 100_000
        for first in range(0, requests, step):
            part = slice(first, first + step)
            simulation.run(float(np.nextafter(at[part][-1], np.inf)), at[part], inputs[part], outputs[part])
        return simulation.window().total.ended

    return one_run


class Proportional:
    """The instances that the newest rate needs, and a third more."""

    def decide(self, service: Service, observation: Observation, now: float) -> dict[str, PoolTarget]:
        """Size the first pool by the arrivals."""
        pool = service.pools[0]
        rate = observation.arrivals_rps.value if observation.arrivals_rps else 30.0
        return {pool.name: PoolTarget(max(1, int(1.3 * rate / pool.throughput_rps) + 1), 100)}


def world(days: float) -> Callable[[], int]:
    """Return a run of everything: drawn traffic, machines, metrics, an observation and a decision a minute."""
    steps = int(days * 144)
    rps = 30 + 20 * np.sin(np.arange(steps) / 144 * 2 * np.pi)
    trace = RateTrace("day", np.arange(steps) * 600.0, rps, 600.0)
    policy = Policy(model="m", request=Request(input_tokens=800, output_tokens=180), slo=SLO)
    carried = instance_capacity(PROFILE, policy.request, policy.slo, policy.load.unit)
    pool = Pool(
        name="a10g",
        types=("g5.xlarge",),
        min_instances=0,
        max_instances=100,
        capacity=carried.capacity,
        throughput_rps=carried.throughput_rps,
        on_demand_usd_per_hour=1.0,
    )
    service = Service(name="chat", policy=policy, pools=(pool,))

    def one_run() -> int:
        machines = MachineModel(boot=BootTime(300, 500))
        simulated = World(service, trace, {"a10g": PROFILE}, initial={"a10g": 20}, machines=machines)
        return run(simulated, Proportional(), 60.0).requests

    return one_run


def measure(name: str, one_run: Callable[[], int], runs: int) -> None:
    """Print requests per second of processor time: the median of `runs` runs after one that compiles."""
    one_run()
    speeds = []
    for _ in range(runs):
        begin = time.process_time()
        requests = one_run()
        speeds.append(requests / (time.process_time() - begin))
    spread = f"{min(speeds) / 1e6:.2f} to {max(speeds) / 1e6:.2f}"
    print(f"{name:<56} {statistics.median(speeds) / 1e6:6.2f} million requests/s ({spread})", flush=True)


def tables(folder: Path | None) -> None:
    """Print the validations as rows of docs/simulator.md."""
    print("\n| queue | quantity | exact | simulated | error |\n|---|---|---|---|---|")
    for check in [*theory(2_000_000), *whole_steps()]:
        row = f"{check.expected:.4f} | {check.simulated:.4f} | {100 * check.error:.2f} %"
        print(f"| {check.case} | {check.quantity} | {row} |")
    if folder is None:
        return
    names = ("time to first token", "time per token", "end to end")
    print("\n| configuration | rows | " + " | ".join(f"{name}: mean, max error" for name in names) + " |")
    print("|---|---|---|---|---|")
    for fit in published(folder):
        cells = (f"{100 * fit.errors[name].mean():.1f} %, {100 * fit.errors[name].max():.1f} %" for name in names)
        print(f"| {fit.name} | {fit.rows} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2_000_000)
    parser.add_argument("--days", type=float, default=1.0)
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--profiles", type=Path, help="folder of the published tables")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, numba {numba.__version__}, {platform.machine()}, one core, processor time"
    )
    measure("kernel, 1 pool x 20 instances", kernel(1, 20, options.requests), options.runs)
    measure("kernel, 3 pools x 24 instances", kernel(3, 24, options.requests), options.runs)
    measure("kernel, 5 pools x 200 instances", kernel(5, 200, options.requests), options.runs)
    measure(f"world, {options.days:g} days, a decision a minute", world(options.days), options.runs)
    if options.validate:
        tables(options.profiles)


if __name__ == "__main__":
    main()
