"""Reports: one self-contained HTML file with text, figures, tables and charts."""

from __future__ import annotations

from lab.report.page import Block, Chart, Column, Figure, Figures, Section, Table, Text, page

__all__ = ["Block", "Chart", "Column", "Figure", "Figures", "Section", "Table", "Text", "page"]
