"""Read-only checks for whatever would make `pulumi up` fail.

`finding` defines a check's result, `aws` makes the calls, `stack_needs` is the stack's YAML, `check` runs checks in
parallel. Each other module is about one thing that AWS must have: pure functions judge AWS's answer, and `checks`
yields the checks that ask for it. `all_checks` lists them.
"""
