"""The whole of tests/faults: every promise under failure at its release figure, and the table of what was shown.

python benchmarks/faults.py            all; an hour or two
python benchmarks/faults.py B4 A1      these rows
python benchmarks/faults.py --tenth    what the test suite runs
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="names of rows, as A1; tests have them in their names")
    parser.add_argument("--tenth", action="store_true", help="a tenth of the counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.jsonl")
        command = [sys.executable, "-m", "pytest", "-q", "tests/faults", "--timeout", "3600"]
        if options.rows:
            command += ["-k", " or ".join(f"_{row.lower()}_" for row in options.rows)]
        environment = {**os.environ, "FAULTS_REPORT": str(report), "FAULTS_FULL": "0" if options.tenth else "1"}
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        entries = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    print("\n| row | promise | held | figures |\n|---|---|---|---|")
    for entry in sorted(entries, key=lambda each: (each["row"], each["promise"])):
        known = {"row", "promise", "held", "of", "test"}
        figures = ", ".join(f"{key} {value}" for key, value in entry.items() if key not in known)
        print(f"| {entry['row']} | {entry['promise']} | {entry['held']:,} of {entry['of']:,} | {figures} |")
    return code


if __name__ == "__main__":
    sys.exit(main())
