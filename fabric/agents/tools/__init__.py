"""`fabric mcp`: the fabric as tools of a model, over the Model Context Protocol.

`seat.py` is the agent that the tools speak for, without the protocol; `server.py` is the surface.
The only package that imports `mcp`, and it does so late: the extra `mcp` has it.
"""
