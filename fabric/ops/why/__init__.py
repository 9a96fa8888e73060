"""Why an agent waits, from a session's log (`fabric why`). `explanation` is where to start."""
