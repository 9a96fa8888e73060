"""What a session's results come to: statements, parts, and the revisions that are made of them."""
