"""The synthesis of a session: all results of its agents, merged while the agents still work."""
