"""Where state lives: the port that workers and clients need, and its two implementations.

Only this package knows Redis. Driver errors stop here: what leaves is a `fabric.errors` error.
"""
