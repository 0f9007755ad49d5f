"""The sentences of a decision: one constructor for each reason code, one module for each step."""
