"""One self-contained HTML file: sections of text, figures, tables and charts. Nothing is loaded from outside.

The page contains the charts' library (Vega, Vega-Lite and Vega-Embed, from vl-convert: about 0.9 MB) once, whatever the
number of charts. A content security policy forbids the browser to contact any host.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import vl_convert

from gpu_fleet.reports.look import SCRIPT, STYLE, chart_config

VEGA_LITE_VERSION = "6.4"
"""The version of altair's schema; vl-convert contains it."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A Vega-Lite specification, as altair makes it (see `gpu_fleet.reports.charts`)."""

    spec: Mapping[str, Any]
    """Empty for a chart without data: only its title and note are shown."""
    title: str = ""
    note: str = ""
    group: str = ""
    """Charts of the same group share their time axis: zooming one zooms all."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its key in the rows, its heading, and the format of its values."""

    key: str
    heading: str
    form: str = ""
    """Format of a number (`.1f`, `,.0f`, `.2%`); empty for text."""
    unit: str = ""
    """`$` goes before the number, any other unit after it."""
    wide: bool = False
    """Long text that may wrap."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; a click on a heading sorts them. A missing value is shown as a dash, never as zero."""

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    title: str = ""
    note: str = ""
    highlight: str = ""
    """Rows in which this key is true are emphasised."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with a label."""

    value: str
    label: str
    tone: str = ""
    """`good`, `bad` or nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A row of numbers."""

    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    quiet: bool = False


Block: TypeAlias = Chart | Table | Figures | Text


@dataclass(frozen=True, slots=True)
class PageSection:
    """A heading with its content."""

    title: str
    blocks: Sequence[Block] = field(default=())
    text: str = ""


def page(title: str, sections: Sequence[PageSection], *, subtitle: str = "") -> str:
    """Return the whole document. All text is escaped; the same input gives the same bytes."""
    charts: dict[str, Chart] = {}
    bodies = [_section(number, section, charts) for number, section in enumerate(sections)]
    links = "".join(f'<a href="#section-{i}">{_text(section.title)}</a>' for i, section in enumerate(sections))
    policy = (
        "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
    )
    specs = {key: {"spec": _without_schema(chart.spec), "group": chart.group} for key, chart in charts.items()}
    looks = {"light": chart_config(dark=False), "dark": chart_config(dark=True)}
    # The library is a classic script and ours a module: a module's names cannot clash with the library's short ones.
    library = f"<script>{_library()}</script>" if charts else ""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<link rel="icon" href="data:,">',
            f"<title>{_text(title)}</title>",
            f"<style>{STYLE}</style></head>",
            f"<body><main><header><h1>{_text(title)}</h1>",
            f"<p>{_text(subtitle)}</p>" if subtitle else "",
            f"<nav>{links}</nav>" if len(sections) > 1 else "",
            "</header>",
            *bodies,
            "</main>",
            f'<script type="application/json" id="specs">{_json(specs)}</script>',
            f'<script type="application/json" id="looks">{_json(looks)}</script>',
            library,
            f'<script type="module">{SCRIPT}</script>',
            "</body></html>",
            "",
        ]
    )


@cache
def _library() -> str:
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE_VERSION)
    return bundle.replace("</script", "<\\/script")


def _section(number: int, section: PageSection, charts: dict[str, Chart]) -> str:
    """Return a section as HTML, and add its charts to `charts`."""
    parts = [f'<section id="section-{number}"><h2>{_text(section.title)}</h2>']
    if section.text:
        parts.append(f"<p>{_text(section.text)}</p>")
    for block in section.blocks:
        match block:
            case Text():
                parts.append(f"<p{' class=note' if block.quiet else ''}>{_text(block.text)}</p>")
            case Figures():
                cells = "".join(
                    f'<div class="figure"><b class="{_text(figure.tone)}">{_text(figure.value)}</b>'
                    f"<span>{_text(figure.label)}</span></div>"
                    for figure in block.figures
                )
                parts.append(f'<div class="figures">{cells}</div>')
            case Table():
                parts.append(table(block))
            case Chart():
                if block.title:
                    parts.append(f"<h3>{_text(block.title)}</h3>")
                if block.note:
                    parts.append(f'<p class="note">{_text(block.note)}</p>')
                if block.spec:
                    key = f"chart-{len(charts)}"
                    charts[key] = block
                    parts.append(f'<div class="chart" id="{key}"></div>')
    return "\n".join([*parts, "</section>"])


def table(block: Table) -> str:
    """Return a table as HTML."""
    heads = "".join(
        f'<th tabindex="0" scope="col"{_class("number" if column.form else "")}>{_text(column.heading)}</th>'
        for column in block.columns
    )
    rows = "".join(
        f"<tr{_class('ours' if block.highlight and row.get(block.highlight) else '')}>"
        + "".join(_cell(column, row.get(column.key)) for column in block.columns)
        + "</tr>"
        for row in block.rows
    )
    title = f"<h3>{_text(block.title)}</h3>" if block.title else ""
    note = f'<p class="note">{_text(block.note)}</p>' if block.note else ""
    body = f'<table class="sortable"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
    return f'{title}{note}<div class="scroll">{body}</div>'


def _cell(column: Column, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return f'<td{_class("number" if column.form else "")} data-value="">\u2013</td>'
    if column.form:
        number = format(value, column.form)
        text = f"${number}" if column.unit == "$" else f"{number} {column.unit}".rstrip()
        return f'<td class="number" data-value="{value!r}">{_text(text)}</td>'
    return f"<td{_class('wide' if column.wide else '')}>{_text(str(value))}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _json(value: object) -> str:
    """Return JSON that cannot end the script element around it. A number that is not finite becomes null."""
    return json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _finite(value: object) -> object:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value


def _without_schema(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the specification without its schema's address. Nothing requests it, but a page should name no host."""
    return {key: value for key, value in spec.items() if key not in {"$schema", "config"}}
