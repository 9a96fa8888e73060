"""The live view of a session: a model of what is going on, its layout, and the loop behind it."""
