"""The article's three quantities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.model import ratio, response_time, utilization

CAPACITIES = [100, 150, 200, 250, 300]
LOADS = [50, 100, 150, 200, 250]


def test_the_articles_example_gives_the_right_figures():
    """Five nodes, part 4.3. The article prints 3.75, 3.75 and 1.25: slips of its arithmetic.

    1/2 + 2/3 + 3/4 + 4/5 + 5/6 = 3.55; a fifth of it is 0.71; over a limit of 3 it is 1.1833...
    """
    assert utilization(LOADS, CAPACITIES) == pytest.approx(3.55, abs=1e-12)
    assert response_time(LOADS, CAPACITIES) == pytest.approx(0.71, abs=1e-12)
    assert ratio(3.55, 3) == pytest.approx(1.18333333333, abs=1e-9)
    assert ratio(utilization(LOADS, CAPACITIES), 3) > 1


def test_a_service_without_instances_waits_for_nothing_and_is_too_small_for_any_load():
    assert utilization([], []) == 0
    assert response_time([], []) == 0
    assert ratio(0, 0) == 0
    assert ratio(0.1, 0) == float("inf")


@pytest.mark.parametrize(
    ("loads", "capacities", "message"),
    [
        ([1], [], r"loads: must be as many as capacities \(got 1 and 0\)"),
        ([1], [0], r"capacities\[0\]: must be above 0 \(got 0\)"),
        ([1, 1], [1, -5], r"capacities\[1\]: must be above 0 \(got -5\)"),
    ],
)
def test_wrong_capacities_are_refused(loads, capacities, message):
    with pytest.raises(ValueError, match=message):
        utilization(loads, capacities)
    with pytest.raises(ValueError, match=message.replace("loads", "queues")):
        response_time(loads, capacities)


def test_a_negative_limit_is_refused():
    with pytest.raises(ValueError, match=r"limit: must not be negative \(got -1\)"):
        ratio(1, -1)


nodes = st.lists(st.tuples(st.floats(0, 1e6), st.floats(1e-3, 1e6)), min_size=1, max_size=50)


@given(nodes, st.floats(0.1, 10))
def test_u_and_t_do_not_depend_on_the_unit_of_load(pairs, factor):
    loads, capacities = zip(*pairs, strict=True)
    scaled = ([x * factor for x in loads], [c * factor for c in capacities])
    assert utilization(*scaled) == pytest.approx(utilization(loads, capacities), rel=1e-9)
    assert response_time(*scaled) == pytest.approx(response_time(loads, capacities), rel=1e-9)


@given(nodes)
def test_t_is_the_mean_of_the_terms_of_u(pairs):
    loads, capacities = zip(*pairs, strict=True)
    assert response_time(loads, capacities) * len(pairs) == pytest.approx(utilization(loads, capacities))
