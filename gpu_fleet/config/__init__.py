"""The user's YAML as typed values, each error with its file, line and column."""
