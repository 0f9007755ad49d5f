"""Policy tests for users: a policy's `cases`, each an observation in short form and bounds on the decision.

    cases:
      - name: a fleet near its limit grows
        given:
          pools: {l4: {types: [g6.xlarge], min: 1, max: 12, ready: 4, load_percent: 95}}
        expect:
          total_desired: ">=5"

`given` and `expect` are the keys, `read` finds the cases of a policy, `observed` fills in what a case does not say,
`case` decides it.
"""

from lab.cases.case import Case, Decide, Outcome, run
from lab.cases.expect import Difference, Expect, within
from lab.cases.given import Given
from lab.cases.observed import NOW, observation
from lab.cases.read import cases

__all__ = [
    "NOW",
    "Case",
    "Decide",
    "Difference",
    "Expect",
    "Given",
    "Outcome",
    "cases",
    "observation",
    "run",
    "within",
]
