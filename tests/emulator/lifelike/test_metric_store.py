from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.emulator.lifelike.metric_store import DataPoint
from tests.emulator.lifelike.metric_requests import put, query, values


def test_dimensions_match_as_a_complete_set_in_any_order(desk: Any) -> None:
    put(desk, 5, dims=[("a", "1"), ("b", "2")])
    assert values(desk, query(dims=[("b", "2"), ("a", "1")])) == [5]
    assert values(desk, query(dims=[("a", "1")])) == []
    assert values(desk, query()) == []


def test_namespaces_do_not_mix(desk: Any) -> None:
    put(desk, 5, dims=[("a", "1")])
    put(desk, 7, dims=[("a", "1")], namespace="Other")
    assert values(desk, query(dims=[("a", "1")])) == [5]


def test_high_resolution_is_needed_for_windows_under_a_minute(desk: Any) -> None:
    put(desk, 3, at=15, name="fine", StorageResolution=1)
    put(desk, 3, at=15, name="coarse")
    assert values(desk, query(name="fine", period=10)) == [3]
    assert values(desk, query(name="coarse", period=10)) == []
    assert values(desk, query(name="fine")) == values(desk, query(name="coarse")) == [3]


@pytest.mark.parametrize(
    ("stat", "expected"),
    [("Sum", 10), ("Average", 2.5), ("Minimum", 1), ("Maximum", 4), ("SampleCount", 4), ("p50", 2.5), ("p100", 4)],
)
def test_statistics_of_values_with_counts(desk: Any, stat: str, expected: float) -> None:
    put(desk, Values=[1, 2, 4], Counts=[1, 1, 1])
    put(desk, 3)
    assert values(desk, query(stat=stat)) == [expected]


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=40), st.integers(0, 100))
def test_percentiles_are_linear_between_ranks(numbers: list[int], percent: int) -> None:
    point = DataPoint()
    for number in numbers:
        point.add(float(number))
    assert point.statistic(f"p{percent}") == pytest.approx(np.percentile(numbers, percent))


def test_statistics_sets_merge_and_know_no_percentile(desk: Any) -> None:
    put(desk, StatisticValues={"SampleCount": 4, "Sum": 20, "Minimum": 1, "Maximum": 9})
    put(desk, 30)
    assert values(desk, query(stat="Average")) == [10]
    assert values(desk, query(stat="Maximum")) == [30]
    assert values(desk, query(stat="p50")) == []


def test_fine_data_is_kept_for_three_hours_and_then_as_minutes(desk: Any) -> None:
    put(desk, 2, StorageResolution=1, at=1)
    put(desk, 4, StorageResolution=1, at=2)
    desk.pass_time(4 * 3600)
    put(desk, 9, StorageResolution=1)
    assert values(desk, query(period=1), seconds=5 * 3600) == [9]
    assert values(desk, query(stat="Average"), seconds=5 * 3600) == [9, 3]
    desk.pass_time(17 * 86_400)
    put(desk, 9)
    assert len(values(desk, query(stat="Average"), seconds=20 * 86_400)) <= 2


def test_metrics_are_listed_once_each(desk: Any) -> None:
    put(desk, dims=[("a", "1")])
    put(desk, dims=[("a", "1")])
    put(desk, name="other")
    found = desk.cloudwatch.list_metrics(Namespace="N")["Metrics"]
    assert sorted(m["MetricName"] for m in found) == ["m", "other"]
