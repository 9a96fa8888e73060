"""An in-process fabric for tests: the in-memory store."""
