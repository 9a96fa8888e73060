"""What people and operators ask: why, replay, overview, dead letters, questions, guard."""
