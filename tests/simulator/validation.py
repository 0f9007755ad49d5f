"""The simulator compared with known figures: queueing theory, a loop of whole steps, and published measurements.

Each check is a row of docs/simulator.md. `bench/bench_simulator.py --validate` prints the rows, and
`test_validation.py` sets their limits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gpu_fleet.simulator.simulation import Engine, RequestLog, Simulation, SimulationOptions
from tests.simulator.reference import Request, simulate_steps

Floats = NDArray[np.float64]

ROOMY = 1e15
"""Memory that is never the limit, in tokens."""

ANSWER_TOKENS = 128
"""Answer length of the published rows."""

WHOLE_LOG = SimulationOptions(output_reserved=0.0, keep_requests=True)


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, expected and simulated."""

    case: str
    quantity: str
    expected: float
    simulated: float

    @property
    def error(self) -> float:
        """Relative error."""
        return abs(self.simulated - self.expected) / abs(self.expected)


# --- queueing theory ---------------------------------------------------------------------------------------------


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that an arrival waits in M/M/c; `load`, below c, is in erlangs.

    The load is the arrival rate x the mean service time.

    By Erlang's B recursion (Cooper, "Introduction to Queueing Theory", 1981, section 3.4).
    """
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def theory(requests: int = 1_000_000, seed: int = 1) -> Iterator[Check]:
    """Check every configuration in which the simulator is a queue with a known answer."""
    yield from _common_queue(requests, seed)
    yield from _one_prompt_at_a_time(requests, seed)
    yield from _processor_sharing(requests, seed)
    yield from _batch_speed(requests, seed)
    yield from _random_split(requests, seed)


def _run(engine: Engine, at: Floats, inputs: Floats, outputs: Floats, seed: int) -> RequestLog:
    """Run one instance until the last request has ended."""
    simulation = Simulation([engine], seed=seed, options=WHOLE_LOG)
    simulation.join(0)
    simulation.run(float(at[-1]) + 1e9, at, inputs, outputs)
    return simulation.requests()


def _poisson(random: np.random.Generator, count: int, rate: float) -> Floats:
    return np.cumsum(random.exponential(1 / rate, count))


def _settled(values: Floats) -> Floats:
    """Return the values without the first tenth, which the empty start still affects."""
    return values[len(values) // 10 :]


def _common_queue(requests: int, seed: int) -> Iterator[Check]:
    """Check M/M/c: an instance with c places and a step independent of the batch serves every sequence at one speed."""
    for servers, use in ((1, 0.8), (4, 0.8), (16, 0.9)):
        random = np.random.default_rng((seed, 1, servers))
        step = 0.02
        engine = Engine(0.0, 0.0, step, 0.0, ROOMY, servers)
        steps = random.exponential(50.0, requests)  # 1 s of service
        at = _poisson(random, requests, use * servers)
        log = _run(engine, at, np.ones(requests), 1 + steps, seed)
        # A prefill takes no time here, so the first token comes when a place is free.
        waits = _settled(log.first_token_at - at)
        name = f"M/M/{servers}, use {use}"
        waiting = erlang_c(servers, use * servers)
        yield Check(name, "share that waits", waiting, float((waits > 1e-9).mean()))
        yield Check(name, "mean wait, s", waiting / (servers * (1 - use)), float(waits.mean()))
        # P(W > t) = C * exp(-c (1 - use) t): the 99 % quantile.
        tail = math.log(waiting / 0.01) / (servers * (1 - use))
        yield Check(name, "99 % of the wait, s", tail, float(np.quantile(waits, 0.99)))


def _one_prompt_at_a_time(requests: int, seed: int) -> Iterator[Check]:
    """Check M/D/1 and M/G/1 in order of arrival: with answers of one token, only the prefill takes time.

    Mean wait by Pollaczek and Khinchine: rate * E[S^2] / (2 (1 - use)).
    """
    engine = Engine(0.1, 0.0009, 0.02, 0.0, ROOMY, 8)
    for name, cv in (("M/D/1", 0.0), ("M/G/1, lognormal, cv 1.5", 1.5)):
        for use in (0.5, 0.9):
            random = np.random.default_rng((seed, 2, int(10 * use)))
            sigma = math.sqrt(math.log(1 + cv**2))
            inputs = 1000.0 * np.exp(sigma * random.standard_normal(requests) - sigma**2 / 2)
            service = 0.1 + 0.0009 * inputs
            at = _poisson(random, requests, use)
            log = _run(engine, at, inputs, np.ones(requests), seed)
            waits = _settled(log.finished_at - at - service)
            square = 1.0 + (0.9 * cv) ** 2
            yield Check(f"{name}, use {use}", "mean wait, s", use * square / (2 * (1 - use)), float(waits.mean()))


def _processor_sharing(requests: int, seed: int) -> Iterator[Check]:
    """Check M/G/1-PS: with a step proportional to the batch, the sequences share one server.

    The mean time in the system is E[S] / (1 - use) for every distribution, and x / (1 - use) for a request of size x
    (Kleinrock, "Queueing Systems" II, 4.4).
    """
    step = 0.001
    engine = Engine(0.0, 0.0, 0.0, step, ROOMY, 4096)
    for name in ("M/M/1-PS", "M/D/1-PS", "M/H2/1-PS, cv 3"):
        for use in (0.5, 0.8):
            random = np.random.default_rng((seed, 3, len(name), int(10 * use)))
            steps = {
                "M/M/1-PS": random.exponential(1000.0, requests),
                "M/D/1-PS": np.full(requests, 1000.0),
                "M/H2/1-PS, cv 3": _hyperexponential(random, requests, 1000.0, 3.0),
            }[name]
            at = _poisson(random, requests, use)
            log = _run(engine, at, np.ones(requests), 1 + steps, seed)
            times = _settled(log.finished_at - at)
            case = f"{name}, use {use}"
            yield Check(case, "mean time in system, s", 1 / (1 - use), float(times.mean()))
            if name != "M/D/1-PS":
                size = _settled(steps) * step
                large = size > 2.0
                yield Check(
                    case,
                    "mean slow-down of requests above twice the mean size",
                    1 / (1 - use),
                    float(times[large].sum() / size[large].sum()),
                )


def _hyperexponential(random: np.random.Generator, count: int, mean: float, cv: float) -> Floats:
    """Draw from two exponentials with balanced means."""
    p = (1 + math.sqrt((cv**2 - 1) / (cv**2 + 1))) / 2
    first = random.random(count) < p
    return random.exponential(1.0, count) * np.where(first, mean / (2 * p), mean / (2 * (1 - p)))


def _batch_speed(requests: int, seed: int) -> Iterator[Check]:
    """Check the speed of a batch. With exponential answers, the number of requests is a birth-death chain.

    Its death rate at n is b / (step(b) * mean tokens), with b = min(n, places); its stationary mean is summed exactly.
    """
    engine = Engine(0.0, 0.0, 0.02, 0.001, ROOMY, 24)
    tokens = 100.0
    for use in (0.5, 0.9):
        random = np.random.default_rng((seed, 4, int(10 * use)))

        def death_rate(n: int) -> float:
            b = min(n, engine.max_sequences)
            return b / ((engine.decode_base_seconds + b * engine.decode_seconds_per_sequence) * tokens)

        rate = use * death_rate(engine.max_sequences)
        weight, weights = 1.0, [1.0]
        for n in range(1, 5000):
            weight *= rate / death_rate(n)
            weights.append(weight)
        share = np.array(weights) / sum(weights)
        at = _poisson(random, requests, rate)
        log = _run(engine, at, np.ones(requests), 1 + random.exponential(tokens, requests), seed)
        times = _settled(log.finished_at - at)
        mean = float((share * np.arange(len(share))).sum()) / rate
        case = f"batch of 24 as a birth-death chain, use {use}"
        yield Check(case, "mean time in system, s", mean, float(times.mean()))
        # At a use of 0.5 one request in 10,000 waits: too few to count.
        if use > 0.5:
            waits = _settled(log.first_token_at - at)
            waiting = float(share[engine.max_sequences :].sum())
            yield Check(case, "share that waits", waiting, float((waits > 1e-9).mean()))


def _random_split(requests: int, seed: int) -> Iterator[Check]:
    """Check that weights of 3 : 1 split a Poisson stream into two independent M/M/1 queues."""
    random = np.random.default_rng((seed, 5))
    engine = Engine(0.0, 0.0, 0.01, 0.0, ROOMY, 1)
    at = _poisson(random, requests, 1.0)
    steps = random.exponential(100.0, requests)
    simulation = Simulation([engine, engine], seed=seed, options=WHOLE_LOG)
    simulation.set_weights([3.0, 1.0])
    for pool in (0, 1):
        simulation.join(pool)
    simulation.run(float(at[-1]) + 1e9, at, np.ones(requests), 1 + steps)
    log = simulation.requests()
    for pool, use in ((0, 0.75), (1, 0.25)):
        mine = log.pool == pool
        case = f"weights 3 : 1, pool {pool + 1} as M/M/1, use {use}"
        yield Check(case, "share of requests", use, float(mine.mean()))
        yield Check(case, "mean time in system, s", 1 / (1 - use), float(_settled((log.finished_at - at)[mine]).mean()))


# --- whole steps -------------------------------------------------------------------------------------------------


def whole_steps(requests: int = 5_000, seed: int = 1) -> Iterator[Check]:
    """Compare the simulator with a loop of whole steps in plain Python: the error of leaving out step boundaries."""
    engine = Engine(0.01, 1 / 8000, 0.02, 0.0006, 60_000, 48)
    for use in (0.3, 0.6, 0.9):
        random = np.random.default_rng((seed, 6, int(10 * use)))
        inputs = np.ceil(random.lognormal(6.2, 0.8, requests))
        outputs = np.ceil(random.lognormal(4.6, 0.9, requests))
        # Work of a request in a full batch: its prefill, and its share of the steps.
        work = 0.01 + inputs.mean() / 8000 + outputs.mean() * (0.02 / 48 + 0.0006)
        at = _poisson(random, requests, use / work)
        rows = [Request(*row) for row in zip(at.tolist(), inputs.tolist(), outputs.tolist(), strict=True)]
        simulate_steps(engine, 0.5, rows)
        simulation = Simulation([engine], options=SimulationOptions(keep_requests=True))
        simulation.join(0)
        simulation.run(1e12, at, inputs, outputs)
        log = simulation.requests()
        first_token_at = np.array([row.first_token_at for row in rows])
        finished_at = np.array([row.finished_at for row in rows])
        exact = _latencies(at, outputs, first_token_at, finished_at)
        simulated = _latencies(at, outputs, log.first_token_at, log.finished_at)
        for name, seconds in exact.items():
            case, ours = f"whole steps, use {use}", simulated[name]
            yield Check(case, f"mean {name}, s", float(seconds.mean()), float(ours.mean()))
            yield Check(case, f"95 % of {name}, s", float(np.quantile(seconds, 0.95)), float(np.quantile(ours, 0.95)))


def _latencies(at: Floats, outputs: Floats, first_token_at: Floats, finished_at: Floats) -> dict[str, Floats]:
    long = outputs > 1
    return {
        "time to first token": first_token_at - at,
        "time per token": (finished_at - first_token_at)[long] / (outputs[long] - 1),
        "end to end": finished_at - at,
    }


# --- published measurements --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fit:
    """An engine fitted to a published table, and the simulator's error for each of its rows."""

    name: str
    engine: Engine
    rows: int
    errors: dict[str, Floats]
    """By quantity (`time to first token`, `time per token`, `end to end`): relative errors, one a row."""


def published(folder: Path) -> Iterator[Fit]:
    """Fit every configuration of the tables in `folder` (profiles published with Splitwise and SageServe, MIT).

    Rows with the same prompt and batch are merged by their median. Left out:

    - rows that requested more than 128 tokens: most of these answers ended earlier (up to 48 times earlier than
      prompt_time + (tokens - 1) * token_time, which elsewhere holds to 1 %);
    - rows in which memory overflowed and requests were delayed: those where that sum is off by more than 2 % (70B at
      tensor parallel 2 from batch 32 on), batch 64 of the 8B at tensor parallel 2, and its prompts of 8192 tokens,
      whose time per token doubles;
    - the power-capped H100: most of its end-to-end times equal those of the uncapped one;
    - of the 8B tables, prompt_time of batches: it is the same from 2 to 32 prompts, so it is not their prefill time.
    """
    big = pl.read_csv(folder / "llama2_70b_a100_h100.csv").with_columns(
        pl.col("prompt_time") / 1000, pl.col("token_time") / 1000, pl.col("e2e_time") / 1000
    )
    small = [
        pl.read_csv(folder / f"llama31_8b_a100_tp{n}.csv")
        .filter(((pl.col("batch_size") < 64) | (n != 2)) & (pl.col("prompt_size") < 8192))
        # Here token_time is the time of all tokens after the first.
        .with_columns(pl.col("token_time") / (pl.col("token_size") - 1))
        for n in (2, 4)
    ]
    yield from _fits(big, batched_prompts=True)
    for table in small:
        yield from _fits(table, batched_prompts=False)


def _fits(table: pl.DataFrame, *, batched_prompts: bool) -> Iterator[Fit]:
    keys = ["model", "hardware", "tensor_parallel", "prompt_size", "batch_size"]
    times = [pl.col(name).median() for name in ("prompt_time", "token_time", "e2e_time")]
    kept = (pl.col("token_size") == ANSWER_TOKENS) & ~pl.col("hardware").str.ends_with("pcap")
    rows = table.filter(kept).group_by(keys).agg(times).sort(keys)
    sums = pl.col("prompt_time") + (ANSWER_TOKENS - 1) * pl.col("token_time")
    if batched_prompts:
        rows = rows.filter((sums / pl.col("e2e_time") - 1).abs() <= 0.02)
    for (model, hardware, parallel), part in rows.group_by(keys[:3], maintain_order=True):
        yield _fitted(f"{model}, {hardware} x {parallel}", part, batched_prompts=batched_prompts)


def _fitted(name: str, rows: pl.DataFrame, *, batched_prompts: bool) -> Fit:
    column = {key: rows[key].to_numpy().astype(np.float64) for key in rows.columns[3:]}
    prompt, batch = column["prompt_size"], column["batch_size"]
    read = batch >= 1 if batched_prompts else batch == 1
    # The prompts of a batch are prefilled one after another: b * (base + prompt * per token).
    prefill = _relative_fit(np.stack([batch, batch * prompt], axis=1)[read], column["prompt_time"][read])
    decode = _relative_fit(np.stack([np.ones_like(batch), batch], axis=1), column["token_time"])
    engine = Engine(prefill[0], prefill[1], decode[0], decode[1], ROOMY, int(batch.max()))
    runs = [_last_of_batch(engine, p, int(b)) for p, b in zip(prompt, batch, strict=True)]
    first, tokens, ends = (np.array(values) for values in zip(*runs, strict=True))
    errors = {
        "time to first token": (np.abs(first / column["prompt_time"] - 1))[read],
        "time per token": np.abs(tokens / column["token_time"] - 1),
        "end to end": (np.abs(ends / column["e2e_time"] - 1))[read],
    }
    return Fit(name, engine, len(prompt), errors)


def _relative_fit(matrix: Floats, values: Floats) -> list[float]:
    """Return the two coefficients, neither below 0, of the least squares of the relative error."""
    scaled, ones = matrix / values[:, None], np.ones(len(values))
    both = np.linalg.lstsq(scaled, ones, rcond=None)[0]
    if both.min() >= 0:
        return [float(x) for x in both]
    # Then one of them is 0: fit each alone, and take the better fit.
    alone = [np.where(np.arange(2) == k, (column @ ones) / (column @ column), 0.0) for k, column in enumerate(scaled.T)]
    best = min(alone, key=lambda coefficients: float(((scaled @ coefficients - 1) ** 2).sum()))
    return [float(x) for x in best]


def _last_of_batch(engine: Engine, prompt: float, batch: int) -> tuple[float, float, float]:
    """Run a batch sent at once; return the last request's seconds to first token, per token and to the end."""
    simulation = Simulation([engine], options=SimulationOptions(keep_requests=True))
    simulation.join(0)
    simulation.run(1e9, np.zeros(batch), np.full(batch, prompt), np.full(batch, float(ANSWER_TOKENS)))
    log = simulation.requests()
    first, end = float(log.first_token_at[-1]), float(log.finished_at[-1])
    return first, (end - first) / (ANSWER_TOKENS - 1), end
