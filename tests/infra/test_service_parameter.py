"""The SSM parameter from which the scaler reads a service."""

from __future__ import annotations

import json

from gpu_fleet.scaling.policy import Policy, PolicyCase
from gpu_fleet.scaling.service import Pool, Service
from infra.service_parameter import parameter_value


def pool(name: str, fewest: int, throughput_rps: float = 1.0) -> Pool:
    return Pool(
        name=name, types=("g6.xlarge",), min_instances=fewest, max_instances=10, capacity=10,
        throughput_rps=throughput_rps, on_demand_usd_per_hour=1,
    )  # fmt: skip


def service(*pools: Pool, **policy: object) -> Service:
    return Service(name="chat", policy=Policy.model_validate({"model": "m", **policy}), pools=pools)


def test_the_parameter_omits_the_policys_test_cases() -> None:
    case = PolicyCase(name="n", given={"x": 1}, expect={"y": 2})
    text = parameter_value(service(pool("a", 1), cases=[case.model_dump()]), {"pools": {}})
    assert "cases" not in json.loads(text)["service"]["policy"]
