"""Serve large models on GPU instances of your own: the scaling model, and the desk where it is tuned."""
