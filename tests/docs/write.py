"""Write the computed parts of the docs: run `python -m tests.docs.write` in the project's root."""

from __future__ import annotations

from pathlib import Path

from tests.docs import boot, costs, reasons, worked_example
from tests.docs.pages import ROOT

PARTS = {
    ("docs/model.md", "worked example"): worked_example.section,
    ("docs/reasons.md", "codes"): reasons.table,
    ("docs/boot.md", "boots"): boot.boot_table,
    ("docs/boot.md", "boot figures"): boot.sources,
    ("docs/costs.md", "launches"): boot.launch_table,
    ("docs/costs.md", "month"): costs.month_table,
    ("docs/costs.md", "instance"): costs.instance_table,
    ("docs/costs.md", "prices"): costs.price_table,
}


def marks(name: str) -> tuple[str, str]:
    """Return the lines before and after a computed part."""
    return f"<!-- computed: {name} -->\n", "<!-- end -->\n"


def with_part(text: str, name: str, part: str) -> str:
    """Return the page with this part in its place. Raises ValueError if the page has no such place."""
    begin, end = marks(name)
    head, found, rest = text.partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"no part {name!r} between {begin.strip()} and {end.strip()}")
    return f"{head}{begin}\n{part.rstrip()}\n\n{end}{tail}"


def main(root: Path = ROOT) -> None:
    """Write all computed parts."""
    for (page, name), make in PARTS.items():
        path = root / page
        path.write_text(with_part(path.read_text(), name, make()))


if __name__ == "__main__":
    main()
