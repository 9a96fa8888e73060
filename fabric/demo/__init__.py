"""The demonstration fleet: nine agents that run real analysers on a folder of Python files."""
