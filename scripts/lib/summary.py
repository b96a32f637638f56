"""Adds up pytest's JUnit reports: how many tests ran, and which were skipped and why."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def main() -> int:
    """Print the sums; returns 1 if a test failed, none ran, or one was skipped where none may be."""
    total = failed = skipped = 0
    seconds = 0.0
    for argument in sys.argv[1:]:
        file = Path(argument)
        for suite in ET.parse(file).getroot().iter("testsuite"):  # noqa: S314 - our own report
            count, bad, left = (int(suite.get(key, 0)) for key in ("tests", "failures", "skipped"))
            bad += int(suite.get("errors", 0))
            seconds += float(suite.get("time", 0))
            print(f"{file.stem}: {count} tests in {float(suite.get('time', 0)):.0f} s")
            total, failed, skipped = total + count, failed + bad, skipped + left
            for case in suite.iter("testcase"):
                for skip in case.iter("skipped"):
                    print(f"  skipped {case.get('name')}: {skip.get('message')}")
    print(f"all together in {seconds:.0f} s:")
    print(f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
