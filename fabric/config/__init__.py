"""Settings and rules: declarations, files, environment, checks."""
