"""How a session is shown to people: timeline, Markdown, tables."""
