"""The reasons that decisions carry: one module per step, one constructor per code."""
