"""Write the table of docs/demo.md and docs/demo.svg: `python -m tests.docs.demo_figures TRACE` in the project's root.

They belong to one run at one commit, which the page names, so no test checks them. Run it after a change of the model.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

from gpu_fleet.replay.demo import DemoOptions, DemoResult, play, prepare
from gpu_fleet.replay.demo_traffic import TrafficOptions
from gpu_fleet.reports.demo_picture import demo_picture
from tests.docs.pages import ROOT
from tests.docs.write import with_part


def table(outcome: DemoResult) -> str:
    """Return the result of the hour as Markdown."""
    ours, static = outcome.replay, outcome.static
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%h"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    lines = [
        f"Of {dt.datetime.now(dt.UTC):%Y-%m-%d}, at commit `{commit}`:",
        "",
        f"| | gpu-fleet | static peak, {static.count} {static.pool} |",
        "|---|---|---|",
        f"| requests | {ours.requests:,} | {static.requests:,} |",
        f"| within the SLO | {ours.slo_attainment:.2%} | {static.slo_attainment:.2%} |",
        f"| cost, USD | {ours.cost_usd:.2f} | {static.cost_usd:.2f} |",
        f"| GPU hours | {ours.gpu_hours:.1f} | {static.gpu_hours:.1f} |",
        f"| requests lost | {ours.lost} | {static.lost} |",
        f"| instances launched | {ours.launches} | 0 |",
    ]
    return "\n".join(lines)


def main(trace: Path) -> None:
    """Play the hour and write its result."""
    outcome = play(prepare(ROOT, DemoOptions(traffic=TrafficOptions(trace=trace))))
    (ROOT / "docs/demo.svg").write_bytes(demo_picture(outcome, ".svg"))
    page = ROOT / "docs/demo.md"
    page.write_text(with_part(page.read_text(), "the hour", table(outcome)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
