"""A policy or a rival against a trace: what it costs, and how many requests keep to the SLO."""
