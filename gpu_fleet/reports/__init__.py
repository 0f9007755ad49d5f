"""Reports: one self-contained HTML file with text, figures, tables and charts."""
