"""The scaler: observe, decide, apply; once a minute, and at once on an alarm. The Lambda calls `handler.handle`."""
