"""`fabric init`: puts hooks and MCP server into the configurations of clients, and out again.

`client.py` says what belongs where. `jsonc.py` inserts it without touching anything else.
`change.py` writes files, keeps what was there before, and restores it to the byte.
"""
