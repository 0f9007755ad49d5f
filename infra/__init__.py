"""The Pulumi program: what stands. Components, no decisions, no calls of its own to AWS."""
