"""The rules that a user would have instead of the scaler, each from its source, and the scaler's own among them."""
