"""`python -m tests.chaos.check DIRECTORY`: judge once more what a run has left behind."""

import sys
from pathlib import Path

from tests.chaos.checker import check_all


def main(directory: Path) -> int:
    """Print every anomaly of every stage; 1 when there was one."""
    stages = sorted(path.parent for path in directory.glob("*/faults.jsonl"))
    _, anomalies = check_all(stages)
    for name, found in anomalies.items():
        sys.stdout.write(f"{name}: {len(found)}\n" + "".join(f"  {one}\n" for one in found))
    return int(any(anomalies.values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
