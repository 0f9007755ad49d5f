"""The computed parts of the docs are current, and the prose around them agrees with the code."""

from __future__ import annotations

import re

import pytest

from gpu_fleet.scaling.model import ratio, response_time, utilization
from tests.docs import costs, worked_example
from tests.docs.pages import ROOT
from tests.docs.write import PARTS, with_part

MODEL = (ROOT / "docs/model.md").read_text()
COSTS = (ROOT / "docs/costs.md").read_text()


@pytest.mark.parametrize(("page", "name"), PARTS)
def test_a_computed_part_is_current(page: str, name: str):
    text = (ROOT / page).read_text()
    assert text == with_part(text, name, PARTS[page, name]()), "run: python -m tests.docs.write"


def test_the_page_gives_the_articles_example_with_the_right_figures():
    loads, capacities = [50, 100, 150, 200, 250], [100, 150, 200, 250, 300]
    u = utilization(loads, capacities)
    assert f"= {u:.2f}\n" in MODEL
    assert f"T = U / 5 = {response_time(loads, capacities):.2f}\n" in MODEL
    assert f"R = {u:.2f} / 3 = {ratio(u, 3):.3f}\n" in MODEL


def test_the_worked_example_is_what_the_prose_assumes():
    decision = worked_example.example().decision
    assert decision.signals.ratio is not None
    assert decision.signals.ratio > 1
    assert [code.split(".")[0] for code in decision.codes] == ["demand", "sizing", "guard", "mix", "routing"]
    assert decision.codes[2:4] == ("guard.out", "mix.grow")
    assert not decision.held


def test_the_calls_of_the_worked_example_are_the_difference_between_present_and_decided_counts():
    one = worked_example.example()
    seen = one.record.observation.pools
    wanted = {f"chat-{n}": t.desired for n, t in one.decision.targets.items() if t.desired != seen[n].desired}
    ordered = {call.resource: call.arguments.get("DesiredCapacity") for call in one.calls}
    assert ordered == wanted
    assert wanted


def test_each_step_of_the_worked_example_follows_from_the_one_before():
    numbers = {reason.code: reason.numbers for reason in worked_example.example().decision.reasons}
    demand = next(v for k, v in numbers.items() if k.startswith("demand."))
    upper = demand["forecast_rps"] * (1 + demand["headroom_percent"] / 100)
    assert numbers["sizing.slo"]["required_rps"] == pytest.approx(upper)
    assert numbers["guard.out"]["wanted_rps"] == pytest.approx(upper)
    assert numbers["mix.grow"]["carried_rps"] >= upper > numbers["guard.out"]["standing_rps"]


def test_more_than_half_of_the_cost_is_reading_cloudwatch():
    for services in costs.SERVICES:
        cost_by_item = costs.monthly_cost(services)
        assert cost_by_item["GetMetricData"] > sum(cost_by_item.values()) / 2


def test_the_page_says_how_many_services_a_stack_holds():
    assert f"up to {costs.services_per_stack()} services" in COSTS


def test_costs_grow_with_services_and_not_faster():
    totals = {services: sum(costs.monthly_cost(services).values()) for services in costs.SERVICES}
    assert totals[1] < totals[10] <= 10 * totals[1]
    assert totals[10] < totals[100] <= 100 * totals[1]


def test_the_prices_have_their_page_and_the_page_its_date():
    assert all(price.page.startswith("https://aws.amazon.com/") for price in costs.PRICES.values())
    assert re.search(rf"Read in {costs.AS_OF}\b", COSTS)


def test_a_part_without_its_place_is_refused():
    with pytest.raises(ValueError, match="no part 'month'"):
        with_part("# a page", "month", "")
