"""Reports in headless Chromium: every chart draws, nothing is asked of anyone, nothing is complained about."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_fleet.reports import charts
from gpu_fleet.reports.page import Chart, Column, PageSection, Table, page
from gpu_fleet.reports.thresholds_page import thresholds_page
from gpu_fleet.reports.trace_page import trace_page
from gpu_fleet.traffic import describe, generate, hour, to_rates
from gpu_fleet.traffic.threshold_curve import OrderingRule, advise

pytestmark = pytest.mark.browser

N = 60
AT = np.arange(N) * 60.0
EPOCH = 1_780_000_000.0


def every_chart() -> list[Chart]:
    demand = 10 + 6 * np.sin(AT / 600)
    by_pool = {"at_seconds": np.repeat(AT, 2), "pool": ["l4", "l40s"] * N}
    latency = [None if i == 5 else 0.1 + i / 30 for i in range(N)]
    grid = np.arange(0.3, 1.0, 0.02)
    contenders = {
        "contender": ["ours", "other"],
        "cost_usd": [10.0, 14],
        "slo_attainment": [0.997, 0.991],
        "ours": [True, False],
        "cost_low_usd": [9.0, 13],
        "cost_high_usd": [11.0, 15],
        "attainment_low": [0.99, 0.98],
        "attainment_high": [0.999, 0.995],
    }
    decided = {"code": ["scale_out", "hold"] * 5, "sentence": ["why <b>this</b>"] * 10, "pool": ["l4"] * 10}
    curve = {"threshold": grid, "over": grid**8, "over_low": grid**9, "over_high": grid**7, "cost": 1 / grid}
    return [
        charts.demand_and_capacity(
            {"at_seconds": AT, "demand": demand, "capacity": demand + 1, "ordered": demand + 2, "forecast": demand}
        ),
        charts.pools(by_pool | {"ready": np.tile([2, 1], N), "desired": np.tile([2, 2], N)}),
        charts.weights(by_pool | {"weight": np.arange(2 * N) % 7}),
        charts.latency({"at_seconds": AT, "ttft_seconds": latency}, 1.5, span_seconds=(0, 3540)),
        charts.decisions({"at_seconds": AT[::6]} | decided, span_seconds=(0, 3540)),
        charts.cost_against_attainment(contenders, target=0.995, bound_usd=8.0),
        charts.rate({"at_seconds": EPOCH + AT, "rps": demand}),
        charts.histogram({"low": [1, 2, 4], "high": [2, 4, 8], "count": [3, 5, 1]}, title="lengths"),
        charts.threshold_curve(curve, target=0.005, recommended=0.5, current=0.8),
    ]


def marks(tab, number: int) -> int:
    """Drawn shapes of a chart: paths that have an outline, inside its groups of marks."""
    kinds = ", ".join(f"#chart-{number} svg .mark-{kind} path" for kind in ("line", "area", "symbol", "rect"))
    drawn = "s => [...document.querySelectorAll(s)].filter(p => (p.getAttribute('d') || '').length > 4).length"
    return tab.evaluate(drawn, kinds)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_kind_of_chart_draws_and_asks_nobody(visit, scheme):
    drawn = every_chart()
    tab = visit(page("All charts", [PageSection("charts", drawn)]), scheme)
    assert tab.evaluate("document.documentElement.dataset.charts") == f"{len(drawn)}/{len(drawn)}"
    for number in range(len(drawn)):
        assert marks(tab, number) > 0, drawn[number].title
        assert "NaN" not in tab.locator(f"#chart-{number} svg").inner_html()


def test_a_page_is_no_wider_than_the_window_and_charts_are_as_wide_as_the_page(visit):
    tab = visit(page("Wide", [PageSection("charts", every_chart())]))
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    widths = tab.evaluate("[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().width)")
    assert min(widths) > 1000


def test_time_lines_stand_exactly_under_each_other(visit):
    tab = visit(page("Lines", [PageSection("charts", every_chart()[:5])]))
    left = "svg => Math.round(svg.querySelector('.background').getBoundingClientRect().left)"
    lefts = tab.evaluate(f"[...document.querySelectorAll('.chart svg')].map({left})")
    assert len(lefts) == 5
    assert max(lefts) - min(lefts) <= 1


def test_the_reason_of_a_decision_shows_on_hover_as_plain_text(visit):
    tab = visit(page("Decisions", [PageSection("charts", [every_chart()[4]])]))
    tab.locator("#chart-0 svg .mark-symbol path").nth(4).hover()
    shown = tab.locator("#vg-tooltip-element")
    shown.wait_for(state="visible")
    assert "why <b>this</b>" in shown.inner_text()


def test_zooming_one_time_line_takes_the_others_along_and_a_double_click_brings_all_back(visit):
    tab = visit(page("Zoom", [PageSection("charts", every_chart()[:4])]))

    def hours(number: int) -> str:
        return tab.locator(f"#chart-{number} .role-axis-label").first.text_content()

    before = [hours(i) for i in range(4)]
    box = tab.locator("#chart-0").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.keyboard.down("Shift")
    tab.mouse.wheel(0, -600)
    tab.keyboard.up("Shift")
    tab.wait_for_function("s => document.querySelector('#chart-3 .role-axis-label').textContent !== s", arg=before[3])
    assert len({hours(i) for i in range(4)}) == 1
    assert hours(0) != before[0]
    tab.mouse.dblclick(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_function("() => document.querySelector('#chart-3 .role-axis-label').textContent.includes('0:00')")


def test_a_click_on_a_heading_sorts_by_number_and_again_the_other_way(visit):
    rows = [{"name": "b", "cost": 9.0}, {"name": "a", "cost": 10.0}, {"name": "c", "cost": 1.5}]
    tab = visit(
        page("Table", [PageSection("s", [Table([Column("name", "name"), Column("cost", "cost", ".1f")], rows)])])
    )
    names = "[...document.querySelectorAll('tbody tr')].map(r => r.cells[0].textContent).join('')"
    tab.locator("th").nth(1).click()
    assert tab.evaluate(names) == "cba"
    tab.locator("th").nth(1).click()
    assert tab.evaluate(names) == "abc"
    tab.locator("th").nth(0).press("Enter")
    assert tab.evaluate(names) == "abc"


def test_the_reports_of_the_trace_commands_draw(visit):
    week = generate(seed=2)
    one_hour = hour(seed=2).sample(2)
    demand = to_rates(week, 60)
    rule = OrderingRule(300)
    found = advise(demand, rule, attainment=0.995)
    for text in (
        trace_page(week, describe(week)),
        trace_page(one_hour, describe(one_hour)),
        thresholds_page(demand, found, rule, current=0.8),
    ):
        assert len(text) < 2_000_000
        tab = visit(text)
        drawn, all_of_them = map(int, tab.evaluate("document.documentElement.dataset.charts").split("/"))
        assert drawn == all_of_them >= 1
        assert all(marks(tab, number) > 0 for number in range(drawn))


def test_a_chart_of_nothing_says_so(visit):
    nothing = [
        charts.rate({"at_seconds": [], "rps": []}),
        charts.demand_and_capacity({"at_seconds": [], "demand": [], "capacity": []}),
        charts.decisions({"at_seconds": [], "code": [], "sentence": []}),
        charts.latency({"at_seconds": [0.0, 60], "ttft_seconds": [None, None]}, 1.5),
        charts.pools({"at_seconds": [], "pool": [], "ready": [], "desired": []}),
        charts.weights({"at_seconds": [], "pool": [], "weight": []}),
        charts.cost_against_attainment({"contender": [], "cost_usd": [], "slo_attainment": []}),
        charts.histogram({"low": [], "high": [], "count": []}, title="none"),
    ]
    tab = visit(page("Nothing", [PageSection("charts", nothing)]))
    assert tab.evaluate("document.documentElement.dataset.charts") == "0/0"
    assert tab.locator(".note").all_text_contents() == ["Nothing to show."] * len(nothing)
