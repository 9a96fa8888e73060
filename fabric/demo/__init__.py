"""The review fleet of `fabric demo`: six agents that review Python files and tell each other what
they find.
"""
