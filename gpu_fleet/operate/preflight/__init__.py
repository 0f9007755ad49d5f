"""What `pulumi up` would die of, found by read-only calls before anything is made.

`finding` says what a check may find, `aws` asks, `stack` is what the YAML wants, `check` runs checks side by side.
Each other module is one thing that AWS must have: pure functions from AWS's answer to a finding, and the checks that
ask for it. `plan` lists them all.
"""
