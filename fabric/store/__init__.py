"""State in Redis: the port that workers and clients use, and what implements it.

Only this package knows Redis. Driver errors stop here; callers see errors of `fabric.errors`.
"""
