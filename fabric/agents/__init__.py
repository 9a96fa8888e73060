"""Coding agents and scripts as agents of the fabric: started, installed, and served over MCP."""
