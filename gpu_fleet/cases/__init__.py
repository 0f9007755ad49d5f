"""Policy tests for users: a policy's `cases`, each an observation in short form and bounds on the decision.

    cases:
      - name: a fleet near its limit grows
        given:
          pools: {l4: {types: [g6.xlarge], min: 1, max: 12, ready: 4, load_percent: 95}}
        expect:
          total_desired: ">=5"

`given` and `expect` define the keys, `read` finds the cases of a policy, `observed` completes a case's observation, and
`case` decides it.
"""

from gpu_fleet.cases.case import Case, CaseResult, Decide, run
from gpu_fleet.cases.expect import Expect, Mismatch, within
from gpu_fleet.cases.given import Given
from gpu_fleet.cases.observed import NOW, observation
from gpu_fleet.cases.read import cases

__all__ = [
    "EXAMPLE",
    "MODELS",
    "NOW",
    "Case",
    "CaseResult",
    "Decide",
    "Expect",
    "Given",
    "Mismatch",
    "cases",
    "observation",
    "run",
    "within",
]

MODELS = {"given": Given, "expect": Expect}
"""The model of each part of a case, by its key."""

EXAMPLE = """\
cases:
  - name: a fleet near its limit grows at once, after an hour of rest
    given:
      pools:
        l4: {types: [g6.xlarge], min: 1, max: 12, ready: 4, load_percent: 95}
      for_minutes: 1
      before: {for_minutes: 60, pools: {l4: {load_percent: 50}}}
    expect:
      total_desired: ">=5"
      pools: {l4: {desired: "5..12"}}
      held: false
"""
"""The case shown on the page of all keys; a test runs it."""
