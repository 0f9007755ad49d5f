"""The weights and priorities that an update gives to listener rules."""

from __future__ import annotations

import itertools

import pulumi
import pulumi_aws as aws
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.config.naming import HASH_PRIORITIES, MAX_PRIORITY, PLACES
from gpu_fleet.config.settings import ServiceSettings
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.service import Pool, Service
from infra import listener_rule
from infra.deployed import DeployedRule, DeployedService
from infra.listener_rule import first_weights, hash_priorities, priorities, weights
from infra.stack import sticky_targets


def pool(name: str, minimum: int, throughput_rps: float = 1.0) -> Pool:
    return Pool(
        name=name, types=("g6.xlarge",), min_instances=minimum, max_instances=10, capacity=10,
        throughput_rps=throughput_rps, on_demand_usd_per_hour=1,
    )  # fmt: skip


def service(*pools: Pool, **policy: object) -> Service:
    return Service(name="chat", policy=Policy.model_validate({"model": "m", **policy}), pools=pools)


def test_traffic_starts_where_instances_start() -> None:
    three = service(pool("a", 2, 1.0), pool("b", 1, 4.0), pool("c", 0, 9.0))
    assert first_weights(three) == {"a": 50, "b": 100, "c": 0}


def test_a_service_that_starts_empty_still_routes() -> None:
    assert first_weights(service(pool("a", 0), pool("b", 0))) == {"a": 100, "b": 0}


def test_static_weights_are_the_policys() -> None:
    routing = {"strategy": "static", "static_weights": {"b": 7}}
    assert first_weights(service(pool("a", 1), pool("b", 1), routing=routing)) == {"a": 0, "b": 7}


def test_static_weights_that_name_no_pool_are_refused() -> None:
    with pytest.raises(ValueError, match="serves nobody"):
        first_weights(service(pool("a", 1), routing={"strategy": "static", "static_weights": {"z": 7}}))


CURRENT = {"h100": 70, "l4": 10, "l40s": 20}


@pytest.mark.parametrize("order", [*itertools.permutations(["extra", "h100", "l4", "l40s"])])
def test_a_new_pool_starts_at_weight_zero_at_any_place_in_the_file(order: tuple[str, ...]) -> None:
    """When weights went by position, a new pool got its neighbour's 70, and most requests met no instance."""
    assert weights(service(*(pool(name, 1) for name in order)), CURRENT) == {**CURRENT, "extra": 0}


def test_pools_keep_their_weights_when_one_is_removed() -> None:
    assert weights(service(pool("l4", 1), pool("l40s", 0)), CURRENT) == {"l4": 10, "l40s": 20}


def test_a_renamed_pool_starts_at_weight_zero() -> None:
    renamed = service(pool("fast", 0), pool("l4", 1), pool("l40s", 0))
    assert weights(renamed, CURRENT) == {"fast": 0, "l4": 10, "l40s": 20}


def test_first_weights_return_when_the_pools_with_traffic_are_gone() -> None:
    assert weights(service(pool("l4", 1), pool("l40s", 0)), {"h100": 100, "l4": 0}) == {"l4": 100, "l40s": 0}


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f", "g"])


@given(
    st.lists(NAMES, min_size=1, max_size=5, unique=True),
    st.dictionaries(NAMES, st.integers(0, 999), max_size=5),
    st.data(),
)
def test_no_edit_of_pools_moves_a_weight(pools: list[str], deployed: dict[str, int], data: st.DataObject) -> None:
    """Any set of pools with any rule, so all additions, removals, renamings and permutations."""
    minimums = [data.draw(st.integers(0, 2)) for _ in pools]
    result = weights(service(*map(pool, pools, minimums)), deployed)
    assert set(result) == set(pools)
    assert any(result.values())
    if any(deployed.get(name) for name in pools):
        assert result == {name: deployed.get(name, 0) for name in pools}


def test_two_rules_that_swap_priorities_never_collide() -> None:
    before = priorities({"a": 100, "b": 200}, {})
    assert before == {"a": 500, "b": 1000}
    after = priorities({"a": 200, "b": 100}, before)
    assert after == {"a": 1001, "b": 501}
    assert priorities({"a": 200, "b": 100}, after) == after


def test_a_new_service_takes_another_place_than_the_removed_one_with_its_priority() -> None:
    assert priorities({"new": 100}, {"old": 500}) == {"new": 501}
    assert priorities({"new": 90}, {}, [450]) == {"new": 451}, "a rule for a digit has the first place"


@given(
    st.dictionaries(NAMES, st.integers(1, MAX_PRIORITY), min_size=1),
    st.dictionaries(NAMES, st.integers(1, MAX_PRIORITY), min_size=1),
)
def test_priorities_keep_the_files_order_and_never_collide(first: dict[str, int], then: dict[str, int]) -> None:
    first, then = ({name: p for p, name in {p: name for name, p in one.items()}.items()} for one in (first, then))
    before = priorities(first, {})
    after = priorities(then, before)
    assert {name: priority // PLACES for name, priority in after.items()} == then
    assert len({*after.values()}) == len(after)
    assert all(1 <= priority <= 50000 for priority in after.values())
    for name, priority in after.items():
        assert priority not in {have for other, have in before.items() if other != name}
    assert priorities(then, after) == after


def test_rules_for_digits_come_just_before_their_service() -> None:
    """Of services 100 (hash) and 101, with 89 before them: 445, 450 to 465, 500, 505."""
    assert hash_priorities({"chat": 100}, {}, []) == {"chat": tuple(range(450, 466))}


def test_rules_for_digits_keep_their_places() -> None:
    deployed = {"chat": tuple(range(460, 476))}
    assert hash_priorities({"chat": 100}, deployed, [500]) == deployed


@given(st.lists(st.integers(1, 90), min_size=2, max_size=2, unique=True), st.integers(0, 9), st.booleans())
def test_two_hashing_services_can_swap_priorities(tens: list[int], shift: int, again: bool) -> None:
    """AWS refuses a priority that another rule has, even for the moment in which two rules swap."""
    first, second = (10 * ten + 10 for ten in tens)
    deployed = hash_priorities({"a": first, "b": second}, {}, [])
    wanted = {"a": second + shift, "b": first + shift}
    for _ in range(1 + again):
        after = hash_priorities(wanted, deployed, [])
        for name, priority in wanted.items():
            own = range((priority - HASH_PRIORITIES) * PLACES, priority * PLACES)
            assert len(set(after[name])) == 16
            assert all(place in own for place in after[name])
            for other, places in deployed.items():
                assert other == name or not {*places} & {*after[name]}
        deployed = after


def test_a_rule_for_a_digit_looks_at_the_header_beside_path_and_host() -> None:
    settings = ServiceSettings.model_construct(paths=("/v1/*",), hosts=("chat.example",))
    own, of_digit = (listener_rule.conditions(settings, "x-session-id", digit) for digit in ("", "f"))
    assert of_digit[:2] == own
    (header,) = of_digit[2:]
    assert header.http_header == aws.lb.ListenerRuleConditionHttpHeaderArgs(
        http_header_name="x-session-id", values=["*f"]
    )


@pytest.mark.parametrize(("strategy", "rule", "sticky"), [
    ("capacity", None, False),
    ("capacity", DeployedRule(500, {}, sticky=True), False),
    ("sticky", None, True),
    ("sticky", DeployedRule(500, {}, sticky=True), True),
    ("sticky", DeployedRule(500, {}, sticky=False), False),
])  # fmt: skip
def test_targets_become_sticky_one_update_after_their_rule(
    monkeypatch: pytest.MonkeyPatch, strategy: str, rule: DeployedRule | None, *, sticky: bool
) -> None:
    """AWS: "You must enable group stickiness before enabling target stickiness"."""
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    model = service(pool("a", 1), pool("b", 1), routing={"strategy": strategy})
    deployed = None if rule is None else DeployedService("inference", 8000, "/health", rule=rule)
    assert sticky_targets(model, deployed) is sticky
    assert warnings == (
        ["chat: clients now stay with their pool; run pulumi up again to keep them at an instance"]
        if strategy == "sticky" and not sticky
        else []
    )
