"""`python -m tests.chaos.check DIRECTORY`: judge once more what a run has left behind."""

import sys
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.evidence import Evidence


def main(directory: Path) -> int:
    anomalies = check(Evidence(directory))
    for name, found in anomalies.items():
        sys.stdout.write(f"{name}: {len(found)}\n" + "".join(f"  {one}\n" for one in found))
    return int(any(anomalies.values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
