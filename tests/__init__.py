"""The tests. Start with CONTRIBUTING.md; real servers come from `tests.support.servers`."""
