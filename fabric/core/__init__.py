"""The decisions, as pure functions over plain data: no I/O, no clock, no randomness, no logging.

Start with `step.py`: its table names the handler of every signal type. Each feature has one module.
"""
