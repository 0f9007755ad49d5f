"""The look of reports: style sheet, script, and the charts' colours for light and dark."""

from __future__ import annotations

from typing import Any

SERIES = ("#3b6fd4", "#e08a1e", "#2a9d74", "#b8488e", "#7a5cc7", "#8a6d3b", "#4f8fa8", "#c4553f")
"""Colours of lines and areas, distinct on white and on near-black."""
GOOD, BAD, QUIET = "#2a9d74", "#d1495b", "#8b93a1"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"


def chart_config(*, dark: bool) -> dict[str, Any]:
    """Return the Vega-Lite configuration: quiet axes, the page's font, no box around the plot."""
    ink, line, grid = ("#c9d1de", "#4a5364", "#2b3240") if dark else ("#3d4654", "#b9c1cd", "#e9edf2")
    text = {"labelColor": ink, "titleColor": ink, "labelFont": FONT, "titleFont": FONT}
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            **text,
            "gridColor": grid,
            "domainColor": line,
            "tickColor": line,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "titlePadding": 8,
        },
        "legend": {
            **text,
            "orient": "top",
            "title": None,
            "labelFontSize": 12,
            "symbolStrokeWidth": 3,
            "labelLimit": 260,
            "offset": 6,
        },
        "text": {"color": ink, "font": FONT, "fontSize": 12},
        "rule": {"color": line},
        "range": {"category": list(SERIES)},
        "line": {"strokeWidth": 1.8, "strokeJoin": "round"},
        "area": {"fillOpacity": 0.75},
    }


STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5b6676; --line: #dfe4ea; --page: #f5f7f9; --card: #ffffff;
  --accent: #3b6fd4; --good: #1e7f5c; --bad: #b93448; --stripe: #f8fafb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #98a3b3; --line: #2b3240; --page: #12161d;
  --card: #1a2029; --accent: #7ea6f4; --good: #5cc79d; --bad: #ee7f8d; --stripe: #1e2530; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5; font-size: 15px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
header { margin-bottom: 24px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 0 0 4px; }
h3 { font-size: 14px; margin: 20px 0 2px; font-weight: 600; }
p { margin: 0 0 10px; max-width: 78ch; }
header p, .note { color: var(--soft); }
.note { font-size: 13px; }
nav { display: flex; flex-wrap: wrap; gap: 6px 16px; margin-top: 12px; font-size: 13px; }
nav a { color: var(--accent); text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 22px;
  margin-bottom: 18px; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 12px 0 6px; }
.figure { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.figure b { display: block; font-size: 21px; font-weight: 620; letter-spacing: -0.01em;
  font-variant-numeric: tabular-nums; }
.figure span { color: var(--soft); font-size: 12.5px; }
.good { color: var(--good); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 12px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 12.5px; cursor: pointer; user-select: none; }
th:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; }
th[aria-sort=ascending]::after { content: " \\2191"; } th[aria-sort=descending]::after { content: " \\2193"; }
td.number, th.number { text-align: right; }
td.wide { white-space: normal; min-width: 28ch; }
tbody tr:nth-child(even) { background: var(--stripe); }
tr.ours td { font-weight: 620; }
.chart { width: 100%; margin: 4px 0 10px; min-height: 40px; }
.chart.vega-embed { display: block; padding-right: 0; }
.failed { color: var(--bad); white-space: pre-wrap; font-size: 13px; }
#vg-tooltip-element { font-family: inherit !important; max-width: 420px; white-space: normal; }
#vg-tooltip-element td.value { max-width: 320px; white-space: normal !important; text-overflow: clip !important; }
@media (prefers-color-scheme: dark) { #vg-tooltip-element { background: #232b37 !important;
  color: var(--ink) !important; border-color: var(--line) !important; }
  #vg-tooltip-element table tr td.key { color: var(--soft) !important; } }
@media print { body { background: none; } nav { display: none; }
  section { break-inside: avoid; border: none; padding: 0; } }
"""

SCRIPT = """
const specs = JSON.parse(document.getElementById("specs").textContent);
const looks = JSON.parse(document.getElementById("looks").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
let views = [];
let moving = false;
// Charts of one group share their time axis: dragging or zooming one moves the others.
function follow(source, name, value) {
  if (moving) return;
  moving = true;
  for (const other of views) {
    if (other.group !== source.group || other === source) continue;
    try { other.view.signal(name, value).run(); } catch (_) { /* a chart without a time axis */ }
  }
  moving = false;
}
async function draw() {
  for (const { view } of views) view.finalize();
  views = [];
  let failed = 0;
  for (const [id, { spec, group }] of Object.entries(specs)) {
    const place = document.getElementById(id);
    try {
      const config = dark.matches ? looks.dark : looks.light;
      const options = { mode: "vega-lite", renderer: "svg", actions: false };
      const { view } = await vegaEmbed(place, { ...spec, config }, options);
      const entry = { view, group };
      views.push(entry);
      if (group) {
        try { view.addSignalListener("zoom_at", (name, value) => follow(entry, name, value)); } catch (_) { /* none */ }
      }
    } catch (error) {
      failed += 1;
      place.className = "failed";
      place.textContent = "This chart could not be drawn: " + error;
      console.error(id, error);
    }
  }
  document.documentElement.dataset.charts = views.length + "/" + Object.keys(specs).length;
  return failed;
}
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((head, column) => {
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
        return (numbers ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
      });
      table.tBodies[0].append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort();
    });
  });
}
dark.addEventListener("change", draw);
draw();
"""
