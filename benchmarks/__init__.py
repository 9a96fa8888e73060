"""The cost of the fabric, compared with a bare loop that makes the same writes, and FastStream."""
