from __future__ import annotations

from pathlib import Path

import pytest

from gpu_fleet.config.document import DocumentError
from gpu_fleet.config.fit import PoolPlan, plan_problems
from gpu_fleet.config.library import Library, collect, library, policy_name

SHIPPED = (Path(__file__).parents[2] / "policies/catalog.yaml").read_text()
CATALOG = f"""\
region: us-east-1
date: 2026-01-19
source: a test
{SHIPPED[SHIPPED.index("boot:") : SHIPPED.index("quotas:")]}
quotas:
  g: {{name: Running On-Demand G and VT instances, code: L-DB2E81BA}}
  g-spot: {{name: All G and VT Spot Instance Requests, code: L-3819A6DF}}
types:
  g6.xlarge: {{network_gbps: 10, volume_gbps: 5,
    gpu: L4, gpus: 1, gpu_memory_gib: 22.35, vcpus: 4, memory_gib: 16, on_demand_usd_per_hour: 0.8,
    spot_usd_per_hour: 0.4, quota: g, spot_quota: g-spot}}
  g6.2xlarge: {{network_gbps: 10, volume_gbps: 5,
    gpu: L4, gpus: 1, gpu_memory_gib: 22.35, vcpus: 8, memory_gib: 32, on_demand_usd_per_hour: 1,
    quota: g, spot_quota: g-spot}}
  g6.12xlarge: {{network_gbps: 10, volume_gbps: 5,
    gpu: L4, gpus: 4, gpu_memory_gib: 22.35, vcpus: 48, memory_gib: 192, on_demand_usd_per_hour: 4.6,
    quota: g, spot_quota: g-spot}}
  g5.xlarge: {{network_gbps: 10, volume_gbps: 5,
    gpu: A10G, gpus: 1, gpu_memory_gib: 22.35, vcpus: 4, memory_gib: 16, on_demand_usd_per_hour: 1,
    quota: g, spot_quota: g-spot}}
"""
PROFILES = """\
models:
  small: &small
    weights_gib: 15
    kv_bytes_per_token: 131072
    source: a test
    profiles:
      - {gpu: L4, gpus: 1, prefill_tokens_per_second: 4000, decode_base_seconds: 0.05,
         decode_seconds_per_sequence: 0.001, kv_cache_tokens: 30000, compile_seconds: 100, estimate: true,
         source: a test}
  large:
    <<: *small
    weights_gib: 40
    profiles:
      - {gpu: L4, gpus: 4, prefill_tokens_per_second: 4000, decode_base_seconds: 0.05,
         decode_seconds_per_sequence: 0.001, kv_cache_tokens: 30000, compile_seconds: 100, estimate: true,
         source: a test}
"""
BASE = {"policies/catalog.yaml": CATALOG, "policies/profiles.yaml": PROFILES}


def with_policy(text: str = "model: small\n") -> Library:
    return library({**BASE, "policies/chat.yaml": text})


def plan(
    types: tuple[str, ...] = ("g6.xlarge",), least: int = 0, most: int = 4, spot: float = 0, copy: int | None = None
) -> PoolPlan:
    return PoolPlan(types, least, most, spot, copy)


def problems_of(found: Library, **pools: PoolPlan) -> list[tuple[tuple[str | int, ...], str]]:
    return [(p.path, p.text) for p in plan_problems("chat", pools, found)]


def test_a_good_library_holds_its_policies_by_file_name() -> None:
    found = with_policy()
    assert set(found.policies) == {"chat"}
    assert problems_of(found, l4=plan()) == []
    assert policy_name("policies/chat.yaml") == "chat"


def test_errors_of_all_files_are_reported_together() -> None:
    with pytest.raises(DocumentError) as caught:
        library(
            {
                "policies/catalog.yaml": CATALOG.replace("quota: g,", "quota: x,", 1).replace("0.4", "0.9"),
                "policies/profiles.yaml": PROFILES.replace("gpu: L4, gpus: 1", "gpu: L5, gpus: 1"),
                "policies/chat.yaml": "model: smal\n",
                "policies/batch.yaml": "model: small\nmodell: small\n",
                "policies/broken.yaml": "a: [\n",
            }
        )
    text = "\n".join(map(str, caught.value.problems))
    assert "policies/batch.yaml:2:1: modell: unknown key; did you mean model?" in text
    assert "policies/broken.yaml" in text
    assert "types.g6.xlarge.quota: must be a key of quotas" in text
    assert "types.g6.xlarge.spot_usd_per_hour: must be at most on_demand_usd_per_hour, 0.8 (got 0.9)" in text
    assert "policies/chat.yaml:1:1: model: must be a model of profiles.yaml; did you mean small? (got smal)" in text
    assert "models.small.profiles[0].gpu: must be a GPU class of catalog.yaml; allowed: L4, A10G (got L5)" in text


def test_a_missing_catalog_is_one_plain_error() -> None:
    found, problems = collect({"policies/profiles.yaml": PROFILES})
    assert found is None
    assert [str(p) for p in problems] == ["policies/catalog.yaml: no such file"]


def test_an_invalid_policy_is_not_unknown_to_its_services() -> None:
    found, problems = collect({**BASE, "policies/chat.yaml": "modle: small\n"})
    assert found is not None
    assert len(problems) == 2
    assert problems_of(found, l4=plan()) == []


def test_an_unknown_policy_suggests_one() -> None:
    assert [(p.path, p.text) for p in plan_problems("chta", {"l4": plan()}, with_policy())] == [
        (("policy",), "must be a policy of policies/; did you mean chat? (got chta)")
    ]


def test_types_of_a_pool_must_share_one_gpu_class() -> None:
    found = with_policy()
    assert problems_of(found, l4=plan(("g6.xlarge", "g5.xlarge")))[-1] == (
        ("pools", "l4", "types"),
        "must share one GPU class (got g6.xlarge is L4, g5.xlarge is A10G)",
    )


def test_an_unknown_type_is_placed_at_its_item() -> None:
    assert problems_of(with_policy(), l4=plan(("g6.xlarge", "g6.2xlarg"))) == [
        (("pools", "l4", "types", 1), "must be a type of catalog.yaml; did you mean g6.2xlarge? (got g6.2xlarg)")
    ]


def test_a_model_that_does_not_fit_the_gpu_memory_is_refused_with_what_it_needs() -> None:
    # 40 GiB and 1200 tokens of 128 KiB in nine tenths of the memory: 44.6 GiB.
    assert problems_of(with_policy("model: large\n"), l4=plan()) == [
        (
            ("pools", "l4", "types", 0),
            (
                "GPU memory must be at least 44.6 GiB for large and the KV cache of one request "
                "(got g6.xlarge with 22.4 GiB)"
            ),
        )
    ]
    assert problems_of(with_policy("model: large\n"), l4=plan(("g6.12xlarge",))) == []


def test_a_type_without_a_profile_lists_the_existing_profiles() -> None:
    assert problems_of(with_policy(), a10g=plan(("g5.xlarge",)))[0][1] == (
        "profiles.yaml must have a profile of small on 1 x A10G; there is 1 x L4 (got g5.xlarge)"
    )


def test_several_copies_on_one_instance_use_the_profile_of_one() -> None:
    assert "on 4 x L4" in problems_of(with_policy(), l4=plan(("g6.12xlarge",)))[0][1]
    assert problems_of(with_policy(), l4=plan(("g6.12xlarge",), copy=1)) == []
    assert problems_of(with_policy(), l4=plan(("g6.12xlarge",), copy=3)) == [
        (("pools", "l4", "gpus_per_copy"), "must divide the 4 GPUs of g6.12xlarge (got 3)")
    ]


def test_a_spot_share_needs_a_spot_price() -> None:
    assert problems_of(with_policy(), l4=plan(("g6.xlarge", "g6.2xlarge"), spot=50)) == [
        (
            ("pools", "l4", "types", 1),
            "must have spot_usd_per_hour in catalog.yaml for a pool with spot_percent (got g6.2xlarge)",
        )
    ]


def test_static_weights_must_name_pools_of_the_service() -> None:
    found = with_policy("model: small\nrouting: {strategy: static, static_weights: {l4: 1, l4o: 2}}\n")
    assert problems_of(found, l4=plan()) == [
        (("pools",), "policy chat gives routing.static_weights to l4o, which is no pool here; did you mean l4?")
    ]


def test_static_weights_that_are_all_zero_serve_nobody() -> None:
    with pytest.raises(DocumentError, match="must have a weight above 0"):
        with_policy("model: small\nrouting: {strategy: static, static_weights: {l4: 0}}\n")


def test_scale_to_zero_needs_every_minimum_to_be_zero() -> None:
    found = with_policy("model: small\nzero: {idle_seconds: 600}\navailability: {min_instances: 0}\n")
    assert problems_of(found, a=plan(least=0), b=plan(least=2)) == [
        (("pools", "b", "min"), "must be 0 because the policy scales to zero (zero.idle_seconds) (got 2)")
    ]


def changing(*alternatives: tuple[str, ...], types: tuple[str, ...] = ("g6.xlarge",), spot: float = 0) -> PoolPlan:
    return PoolPlan(types, 0, 4, spot, None, alternatives)


def test_types_change_in_place_only_in_a_single_pool() -> None:
    found = with_policy("model: small\nvertical: {method: in_place}\n")
    assert problems_of(found, a=changing(("g6.2xlarge",))) == []
    assert problems_of(found, a=changing(("g6.2xlarge",)), b=plan())[0][1].startswith("must be 1 pool")


def test_a_policy_that_changes_types_in_place_needs_types_to_change_to() -> None:
    found = with_policy("model: small\nvertical: {method: in_place}\n")
    assert problems_of(found, a=plan()) == [
        (
            ("pools", "a"),
            "must have alternatives, lists of types to change to: the policy's vertical.method is in_place",
        )
    ]


@pytest.mark.parametrize("method", ["pools", "off"])
def test_alternatives_without_in_place_are_refused(method: str) -> None:
    found = with_policy(f"model: small\nvertical: {{method: {method}}}\n")
    assert problems_of(found, a=changing(("g6.2xlarge",))) == [
        (
            ("pools", "a", "alternatives"),
            f"must be left out: the policy's vertical.method is {method}, not in_place",
        )
    ]


def test_each_alternative_is_checked_like_types() -> None:
    found = with_policy("model: small\nvertical: {method: in_place}\n")
    texts = dict(problems_of(found, a=changing(("g6.2xlarge", "g5.xlarge"), ("g7.xlarge",), ("g6.12xlarge",), spot=50)))
    at = ("pools", "a", "alternatives")
    assert "must share one GPU class (got g6.2xlarge is L4, g5.xlarge is A10G)" in texts[(*at, 0)]
    assert "must be a type of catalog.yaml" in texts[(*at, 1, 0)]
    assert "must have a profile of small on 4 x L4" in texts[(*at, 2, 0)]
    assert (*at, 0, 1) in texts


def test_an_alternative_that_is_too_small_for_the_model_is_refused() -> None:
    found = with_policy("model: large\nvertical: {method: in_place}\n")
    texts = dict(problems_of(found, a=changing(("g6.xlarge",), types=("g6.12xlarge",))))
    assert texts.keys() == {("pools", "a", "alternatives", 0, 0)}
    assert "GPU memory must be at least" in texts["pools", "a", "alternatives", 0, 0]


def test_the_policys_minimum_must_be_reachable() -> None:
    found = with_policy("model: small\navailability: {min_instances: 9}\n")
    assert problems_of(found, a=plan(most=4), b=plan(most=4)) == [
        (("pools",), "must allow the policy's availability.min_instances, 9 (got 8, the sum of max)")
    ]


def test_a_kv_cache_larger_than_the_memory_beside_the_weights_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"kv_cache_tokens: must be at most 41902"):
        library(
            {**BASE, "policies/profiles.yaml": PROFILES.replace("kv_cache_tokens: 30000", "kv_cache_tokens: 50000", 1)}
        )
