"""Clients that stay with a pool: what weights, scale-in and the algorithm then do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gpu_fleet.config.settings import Algorithm
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.policy import RoutingPolicy, RoutingStrategy
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.client_affinity import NO_AFFINITY, Affinity, ClientPopulation
from gpu_fleet.simulator.world import START, World
from tests.simulator.conftest import make_service

Make = Callable[..., World]
FOR_EVER = ClientPopulation(active=400, requests_each=1e9)


def routed(**routing: object) -> Service:
    service = make_service()
    policy = service.policy.model_copy(update={"routing": RoutingPolicy.model_validate(routing)})
    return service.model_copy(update={"policy": policy})


CAPACITY = routed(strategy="capacity")
STICKY = routed(strategy="sticky")
HASH = routed(strategy="hash", hash_header="x-session-id")


def share_of_big_after_the_move(make: Make, service: Service, clients: ClientPopulation) -> float:
    """Move all weight from `small` to `big` after ten minutes; the share of `big` in the ten minutes that follow."""
    w = make(service=service, initial={"small": 4, "big": 4}, initial_weights={"small": 1}, clients=clients)
    w.run(START + 600)
    w.apply({"small": PoolTarget(4, 0), "big": PoolTarget(4, 999)}, w.now)
    small, big = w.run(START + 1200).pools
    return big.routed / (small.routed + big.routed)


def test_weights_move_every_request_unless_clients_are_sticky(world: Make) -> None:
    assert share_of_big_after_the_move(world, CAPACITY, FOR_EVER) == 1.0


def test_clients_with_a_cookie_stay_where_they_are(world: Make) -> None:
    """Some 2400 requests in ten minutes: each of the 400 clients has come, but for e^-6 of them, which move."""
    assert share_of_big_after_the_move(world, STICKY, FOR_EVER) == pytest.approx(np.exp(-6), abs=0.005)


def test_new_clients_follow_the_weights(world: Make) -> None:
    """Each of 400 clients sends a request every 100 s and leaves before one of ten. So a request t seconds after the
    move comes from a client of before it with probability 0.9 e^(-t/1000), 0.68 on average over ten minutes.
    """
    expected = 1 - 0.9 * (1 - np.exp(-0.6)) / 0.6
    assert share_of_big_after_the_move(world, STICKY, ClientPopulation(400, 10)) == pytest.approx(expected, abs=0.03)


def test_a_cookie_expires_without_requests(world: Make) -> None:
    """With 20 s between a client's requests on average, 37 % of them come after a pause of 20 s or more, and then stay
    with the new pool: t seconds after the move a client of before it is left with probability about e^(-t/54).
    """
    brief = routed(strategy="sticky", stickiness_seconds=20)
    assert share_of_big_after_the_move(world, brief, ClientPopulation(80, 1e9)) > 0.85


def test_sticky_clients_of_an_empty_pool_get_503(world: Make) -> None:
    """No failover between target groups. https://repost.aws/questions/QUugYm4uzWSI2af5mnmMjlZQ"""
    both = {"small": 2, "big": 2}
    w = world(service=STICKY, initial=both, initial_weights={"small": 1, "big": 1}, clients=FOR_EVER)
    w.run(START + 600)
    w.apply({"small": PoolTarget(0, 0), "big": PoolTarget(4, 999)}, w.now)
    w.run(START + 900)
    window = w.run(START + 1500)
    assert window.pools[0].rejected_no_target / window.pools[1].routed == pytest.approx(1.0, abs=0.2)
    free = world(service=CAPACITY, initial=both, initial_weights={"small": 1, "big": 1})
    free.run(START + 600)
    free.apply({"small": PoolTarget(0, 0), "big": PoolTarget(4, 999)}, free.now)
    assert free.run(START + 1500).total.rejected_no_target == 0


def test_sticky_clients_stay_with_their_instance(world: Make) -> None:
    """A second instance of the pool gets new clients only."""
    w = world(service=STICKY, initial={"small": 1}, initial_weights={"small": 1}, clients=FOR_EVER)
    w.run(START + 900)
    w.apply({"small": PoolTarget(2, 1)}, w.now)
    w.run(START + 1500)
    w.run(START + 2100)
    running = [load.running + load.waiting for _, load in w.simulation.loads()]
    assert min(running) == 0
    assert max(running) > 0


def test_a_hashed_client_has_one_pool(world: Make) -> None:
    """One client that never leaves: its digit has one pool, whatever the weights of the others."""
    one = ClientPopulation(1, 1e9)
    seen = set()
    for seed in range(8):
        both = {"small": 4, "big": 4}
        w = world(service=HASH, initial=both, initial_weights={"small": 500, "big": 500}, clients=one, seed=seed)
        small, big = (pool.routed for pool in w.run(START + 300).pools)
        assert 0 in (small, big)
        seen.add(small == 0)
    assert seen == {True, False}


def test_hashing_meets_the_shares(world: Make) -> None:
    w = world(
        service=HASH,
        initial={"small": 4, "big": 4},
        initial_weights={"small": 450, "big": 550},
        clients=ClientPopulation(100_000, 1.0),
    )
    small, big = w.run(START + 3600).pools
    assert big.routed / (small.routed + big.routed) == pytest.approx(0.55, abs=0.015)


@pytest.mark.parametrize("strategy", [s for s in RoutingStrategy if s not in ("sticky", "hash")])
def test_other_strategies_keep_nobody(strategy: RoutingStrategy) -> None:
    routing = RoutingPolicy(strategy=strategy, static_weights={"small": 1})
    assert Affinity.of(routing, ClientPopulation()) == NO_AFFINITY


def test_the_algorithm_decides_how_long_requests_wait(world: Make) -> None:
    """Least outstanding is fastest, plain random slowest, round robin between them."""
    least, turn, chance = (
        world(algorithm=algorithm, initial={"small": 3}, initial_weights={"small": 1})
        .run(START + 3600)
        .total.e2e_mean_seconds
        or 0.0
        for algorithm in (Algorithm.LEAST_OUTSTANDING_REQUESTS, Algorithm.ROUND_ROBIN, Algorithm.WEIGHTED_RANDOM)
    )
    assert least < turn < chance


@pytest.mark.parametrize(("fields", "message"), [
    ({"active": 0}, r"active: must be at least 1 \(got 0\)"),
    ({"requests_each": 0.5}, r"requests_each: must be at least 1 \(got 0.5\)"),
])  # fmt: skip
def test_clients_are_at_least_one(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClientPopulation(**fields)  # type: ignore[arg-type]


def test_hash_weights_are_given_for_each_digit_and_pool(world: Make) -> None:
    w = world(service=HASH)
    with pytest.raises(ValueError, match=r"must be 16 digits by 2 pools \(got \(1, 2\)\)"):
        w.simulation.set_hash_weights([[1.0, 1.0]])
