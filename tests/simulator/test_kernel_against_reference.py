"""The compiled kernel and the plain-Python reference agree, request by request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.scaling.policy import Slo
from gpu_fleet.scaling.queue_limit import QueueLimit
from gpu_fleet.simulator.client_affinity import NO_AFFINITY, Affinity, ClientPopulation
from gpu_fleet.simulator.simulation import (
    Engine,
    PoolChoice,
    RequestOutcome,
    Simulation,
    SimulationOptions,
    TargetChoice,
)
from tests.simulator import reference
from tests.simulator.reference import Balancer, Splitmix

SLO = Slo(ttft_seconds=0.6, ttft_seconds_per_1000_input_tokens=0.2, tpot_seconds=0.06)


@dataclass(frozen=True)
class Plan:
    """A random run: engines, traffic, and changes of the fleet."""

    seed: int
    pools: int
    instances: int
    requests: int
    load: float
    """Arrival rate over the rate that the fleet could complete, roughly."""
    pool_choice: PoolChoice
    target_choice: TargetChoice
    output_reserved: float
    bursts: bool
    queue_limits: frozenset[str]
    changes: int
    windows: int
    affinity: Affinity


plans = st.builds(
    Plan,
    seed=st.integers(0, 2**32 - 1),
    pools=st.integers(1, 5),
    instances=st.integers(1, 8),
    requests=st.integers(1, 250),
    load=st.sampled_from([0.2, 0.8, 1.5, 5.0]),
    pool_choice=st.sampled_from(PoolChoice),
    target_choice=st.sampled_from(TargetChoice),
    output_reserved=st.sampled_from([0.0, 0.5, 1.0]),
    bursts=st.booleans(),
    queue_limits=st.frozensets(st.sampled_from(["requests", "waiting", "prompt_tokens"])),
    changes=st.integers(0, 12),
    windows=st.integers(1, 7),
    affinity=st.one_of(
        st.just(NO_AFFINITY),
        st.builds(
            Affinity,
            st.builds(ClientPopulation, active=st.integers(1, 30), requests_each=st.sampled_from([1.0, 3.0, 100.0])),
            stickiness_seconds=st.sampled_from([0.0, 0.2, 5.0, 1000.0]),
            digits=st.sampled_from([0, 16]),
        ),
    ),
)


def queue_limit_of(plan: Plan, random: np.random.Generator) -> QueueLimit:
    # Prompts have 150 tokens on average and fractions: no sum is so near the limit that rounding decides.
    most = {"requests": 30, "waiting": 15, "prompt_tokens": 600}
    return QueueLimit(**{name: int(random.integers(1, most[name])) for name in sorted(plan.queue_limits)})


def engines_of(plan: Plan, random: np.random.Generator) -> list[Engine]:
    return [
        Engine(
            prefill_base_seconds=float(random.uniform(0, 0.05)),
            prefill_seconds_per_token=float(random.uniform(1e-5, 1e-3)),
            decode_base_seconds=float(random.uniform(0.005, 0.05)),
            decode_seconds_per_sequence=float(random.choice([0.0, random.uniform(1e-4, 0.02)])),
            kv_cache_tokens=float(random.uniform(400, 6000)),
            max_sequences=int(random.integers(1, 17)),
            queue_limit=queue_limit_of(plan, random),
        )
        for _ in range(plan.pools)
    ]


def traffic_of(plan: Plan, engines: list[Engine], random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Arrival times, prompts and answers."""
    inputs = random.lognormal(5, 0.8, plan.requests)
    outputs = np.maximum(1.0, np.round(random.lognormal(3, 1.0, plan.requests)))
    service_seconds = np.mean([
        e.prefill_base_seconds + 200 * e.prefill_seconds_per_token
        + 30 * (e.decode_base_seconds / e.max_sequences + e.decode_seconds_per_sequence)
        for e in engines
    ])  # fmt: skip
    gaps = random.exponential(service_seconds / plan.instances / plan.load, plan.requests)
    if plan.bursts:
        gaps[random.random(plan.requests) < 0.6] = 0.0
    return np.cumsum(gaps), inputs, outputs


class Twins:
    """A simulation and a reference that get the same changes of their fleets."""

    def __init__(self, plan: Plan, engines: list[Engine]) -> None:
        random_state = int(np.random.SeedSequence(plan.seed).generate_state(1, np.uint64)[0])
        self.balancer = Balancer(
            engines,
            [1.0] * plan.pools,
            Splitmix(random_state),
            plan.output_reserved,
            plan.pool_choice,
            plan.target_choice,
            plan.affinity,
        )
        self.simulation = Simulation(
            engines,
            slo=SLO,
            seed=plan.seed,
            options=SimulationOptions(
                affinity=plan.affinity,
                target_choice=plan.target_choice,
                pool_choice=plan.pool_choice,
                output_reserved=plan.output_reserved,
                keep_requests=True,
            ),
        )
        self.numbers: list[int] = []
        self.changes: list[reference.Change] = []
        """Of the reference."""
        self._twin: dict[int, reference.Instance] = {}

    def join(self, pool: int, at: float) -> None:
        number = self.simulation.join(pool, at)
        self.numbers.append(number)

        def join(balancer: Balancer, now: float) -> None:
            self._twin[number] = balancer.join(pool, now)

        self.changes.append((at, join))

    def drain(self, number: int, at: float, deadline: float) -> None:
        self.simulation.drain(number, at, deadline)
        self.changes.append((at, lambda balancer, _: balancer.drain(self._twin[number])))
        self.changes.append((deadline, lambda balancer, _: balancer.kill(self._twin[number])))

    def kill(self, number: int, at: float) -> None:
        self.simulation.kill(number, at)
        self.changes.append((at, lambda balancer, _: balancer.kill(self._twin[number])))

    def set_weights(self, weights: list[float], at: float) -> None:
        self.simulation.set_weights(weights, at)
        self.changes.append((at, lambda balancer, _: balancer.set_weights(weights)))

    def change(self, at: float, pools: int, random: np.random.Generator) -> None:
        """A random change."""
        match int(random.integers(4)):
            case 0:
                self.join(int(random.integers(pools)), at)
            case 1:
                self.drain(int(random.choice(self.numbers)), at, at + float(random.exponential(1.0)))
            case 2:
                self.kill(int(random.choice(self.numbers)), at)
            case _:
                self.set_weights(random.integers(0, 4, pools).astype(float).tolist(), at)


def run_both(plan: Plan) -> tuple[list[reference.Request], Simulation]:
    random = np.random.default_rng(plan.seed)
    engines = engines_of(plan, random)
    at, inputs, outputs = traffic_of(plan, engines, random)
    span = float(at[-1]) + 1.0
    twins = Twins(plan, engines)
    twins.set_weights(random.integers(0, 4, plan.pools).astype(float).tolist(), 0.0)
    if plan.affinity.digits:
        twins.balancer.hash_weights = random.integers(0, 4, (plan.affinity.digits, plan.pools)).astype(float).tolist()
        twins.simulation.set_hash_weights(twins.balancer.hash_weights)
    for _ in range(plan.instances):
        twins.join(int(random.integers(plan.pools)), 0.0)
    for time in np.sort(random.uniform(0, span, plan.changes)):
        twins.change(float(time), plan.pools, random)
    end = span + 10_000.0
    rows = zip(at.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
    requests = [reference.Request(*row) for row in rows]
    reference.simulate(twins.balancer, requests, sorted(twins.changes, key=lambda change: change[0]), end)
    taken = 0
    for edge in [*np.linspace(0, span, plan.windows + 1)[1:].tolist(), end]:
        taken += twins.simulation.run(edge, at[taken:], inputs[taken:], outputs[taken:])
    assert taken == plan.requests
    return requests, twins.simulation


@given(plans)
@settings(max_examples=150, deadline=None)
def test_every_request_ends_as_and_when_it_does_in_the_reference(plan: Plan) -> None:
    requests, simulation = run_both(plan)
    log = simulation.requests()
    assert [RequestOutcome(x) for x in log.outcome] == [r.outcome for r in requests]
    routed = [r.pool for r in requests]
    served = [o in (RequestOutcome.COMPLETED, RequestOutcome.LOST) for o in log.outcome]
    assert [p for p, s in zip(log.pool.tolist(), served, strict=True) if s] == [
        p for p, s in zip(routed, served, strict=True) if s
    ]
    done = np.array([r.outcome is RequestOutcome.COMPLETED for r in requests])
    for ours, theirs in (
        (log.first_token_at, [r.first_token_at for r in requests]),
        (log.finished_at, [r.finished_at for r in requests]),
    ):
        np.testing.assert_allclose(ours[done], np.array(theirs)[done], rtol=0, atol=1e-6)


@given(plans)
@settings(max_examples=40, deadline=None)
def test_counters_and_means_are_those_of_the_requests(plan: Plan) -> None:
    requests, simulation = run_both(plan)
    total = simulation.window().total
    by = {outcome: [r for r in requests if r.outcome is outcome] for outcome in RequestOutcome}
    assert total.completed == len(by[RequestOutcome.COMPLETED])
    assert total.lost == len(by[RequestOutcome.LOST])
    assert total.rejected_no_target == len(by[RequestOutcome.NO_TARGET])
    assert total.rejected_queue_full == len(by[RequestOutcome.QUEUE_FULL])
    assert total.rejected_too_long == len(by[RequestOutcome.TOO_LONG])
    assert total.ended + simulation.in_flight == len(requests)
    assert total.attained == sum(r.attains(SLO) for r in requests)
    done = by[RequestOutcome.COMPLETED]
    if done:
        e2e = np.array([r.finished_at - r.at for r in done])
        assert total.e2e_mean_seconds is not None
        np.testing.assert_allclose(total.e2e_mean_seconds, e2e.mean(), rtol=1e-6)
        for share in (0.5, 0.95, 1.0):
            exact = np.sort(e2e)[max(0, int(np.ceil(share * len(e2e) - 1e-9)) - 1)]
            np.testing.assert_allclose(total.e2e.quantile(share), exact, rtol=0.0101)
    assert total.output_tokens == sum(r.output_tokens for r in done)
    if not by[RequestOutcome.LOST] and not simulation.in_flight:
        # Little's law, exactly: time in the system summed over requests is the system's content summed over time.
        content = total.running_seconds + total.waiting_seconds
        np.testing.assert_allclose(content, sum(r.finished_at - r.at for r in done), rtol=1e-6, atol=1e-9)
