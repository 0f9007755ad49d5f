"""The desk: everything that runs without AWS."""
