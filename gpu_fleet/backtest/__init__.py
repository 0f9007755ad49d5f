"""Backtests: run contenders (our policy and its rivals) against traces in the simulator, compare and tune them.

A contender decides how many instances a service has. A rival is a contender with a rule from elsewhere. An entrant is a
contender with its pool and its target chosen, ready to run.
"""
