"""The demo's picture: demand against capacity above the instances, drawn without a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import vl_convert

from gpu_fleet.reports.demo_page import demand_chart, instances_chart
from gpu_fleet.reports.look import chart_config
from gpu_fleet.reports.page import VEGA_LITE_VERSION, Chart

if TYPE_CHECKING:
    from gpu_fleet.replay.demo import DemoResult

WIDTH, HEIGHTS = 840, (200, 170)


def demo_picture(result: DemoResult, suffix: str) -> bytes:
    """Return the bytes of an `.svg` or `.png` file."""
    drawn = (demand_chart(result), instances_chart(result))
    parts = [_still(chart, height) for chart, height in zip(drawn, HEIGHTS, strict=True)]
    config = chart_config(dark=False)
    spec = {
        "vconcat": parts,
        "resolve": {"scale": {"color": "independent"}},
        "config": config | {"background": "white", "padding": 12},
    }
    if suffix == ".svg":
        return vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE_VERSION).encode()
    return vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE_VERSION, scale=2)


def _still(chart: Chart, height: int) -> dict[str, Any]:
    """Return the chart without the parts that need a pointer."""
    spec = {key: value for key, value in chart.spec.items() if key not in ("$schema", "config", "autosize")}
    layers = [
        {key: value for key, value in layer.items() if key != "params"}
        for layer in spec["layer"]
        if not any(parameter.get("name") == "near" for parameter in layer.get("params", ()))
    ]
    return spec | {
        "layer": layers,
        "width": WIDTH,
        "height": height,
        "title": {"text": chart.title, "anchor": "start", "fontSize": 13},
    }
