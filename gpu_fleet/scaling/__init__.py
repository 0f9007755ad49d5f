"""The scaling model: policy + observation + state + time in, decision + state out.

Nothing here knows AWS, Pulumi, a clock, an environment or a file: `decide` is a pure function, so the same
code runs in the Lambda each minute and on the desk a hundred thousand times an hour.
"""
