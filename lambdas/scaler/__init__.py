"""The scaler: observe, decide, apply. It runs each minute, and at once on an alarm; Lambda calls `handler.handle`."""
