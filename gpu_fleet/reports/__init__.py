"""Reports: one self-contained HTML file with text, figures, tables and charts."""

from __future__ import annotations

from gpu_fleet.reports.page import Block, Chart, Column, Figure, Figures, PageSection, Table, Text, page

__all__ = ["Block", "Chart", "Column", "Figure", "Figures", "PageSection", "Table", "Text", "page"]
