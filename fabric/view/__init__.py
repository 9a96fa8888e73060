"""Shows a session to people: timeline, synthesis, questions, as plain text or Markdown."""
