"""What traffic a service starts with, and what the scaler is told of it."""

from __future__ import annotations

import json

import pytest

from infra.parameter import parameter
from infra.service import first_weights
from scaling.policy import Case, Policy
from scaling.service import Pool, Service


def pool(name: str, fewest: int, throughput_rps: float = 1.0) -> Pool:
    return Pool(
        name=name, types=("g6.xlarge",), min_instances=fewest, max_instances=10, capacity=10,
        throughput_rps=throughput_rps, on_demand_usd_per_hour=1,
    )  # fmt: skip


def service(*pools: Pool, **policy: object) -> Service:
    return Service(name="chat", policy=Policy.model_validate({"model": "m", **policy}), pools=pools)


def test_traffic_starts_where_instances_start() -> None:
    assert first_weights(service(pool("a", 2, 1.0), pool("b", 1, 4.0), pool("c", 0, 9.0))) == (50, 100, 0)


def test_a_service_that_starts_empty_still_has_a_way() -> None:
    assert first_weights(service(pool("a", 0), pool("b", 0))) == (100, 0)


def test_static_weights_are_the_policys() -> None:
    routing = {"strategy": "static", "static_weights": {"b": 7}}
    assert first_weights(service(pool("a", 1), pool("b", 1), routing=routing)) == (0, 7)


def test_static_weights_that_name_no_pool_are_refused() -> None:
    with pytest.raises(ValueError, match="serves nobody"):
        first_weights(service(pool("a", 1), routing={"strategy": "static", "static_weights": {"z": 7}}))


def test_the_scaler_is_not_sent_the_policys_own_tests() -> None:
    case = Case(name="n", given={"x": 1}, expect={"y": 2})
    text = parameter(service(pool("a", 1), cases=[case.model_dump()]), {"pools": {}})
    assert "cases" not in json.loads(text)["service"]["policy"]
