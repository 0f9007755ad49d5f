"""The rivals: rules that a user would have instead of the scaler, each written from its source."""
