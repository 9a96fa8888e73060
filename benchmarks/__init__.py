"""What the fabric costs: ours beside a bare loop with the same writes, and beside FastStream."""
