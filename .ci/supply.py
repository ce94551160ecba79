"""What is installed, from where, under which licences: writes the lock and the list of licences.

    python .ci/supply.py REPORT

writes .ci/requirements.lock and docs/licences.md from the report of `pip install --report`. `make lock` calls it;
tests/test_supply.py holds both files to constraints.txt.
"""

import json
import re
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK, LICENCES = ROOT / ".ci" / "requirements.lock", ROOT / "docs" / "licences.md"
TOLD_ELSEWHERE = {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary (a package without files)",
    "torchcodec": "BSD-3-Clause (the LICENSE of its repository)",
}
"""Of packages whose records tell none."""
LONGEST = 60  # of a licence's name: some packages give the whole text

HEAD_OF_LOCK = """\
# Every file that is installed, by its SHA-256; made by `make lock` of constraints.txt, for Python 3.11 on Linux x86-64:
#   pip install --require-hashes --no-deps --requirement .ci/requirements.lock && pip install --no-deps .
"""
HEAD_OF_LICENCES = """\
# Licences

Of everything that `constraints.txt` pins, the tests' and the checks' tools too, as the packages themselves say; made by
`make lock`. pclkd itself: Apache-2.0; nothing of what is listed is in this repository or in its wheel.

Who passes an installed environment on, as an image for example, looks further than this table: NVIDIA's libraries come
under its own agreements, and some wheels hold libraries that have licences of their own. `av` brings FFmpeg (LGPL 3 or
later, as it says of itself) with libx264 and libx265 (GPL 2 or later, or commercial); `opencv-python-headless` too.

| package | version | licence |
|---|---|---|
"""


def pinned() -> dict[str, str]:
    """Versions by name, in the order of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def reported(report: Path) -> dict[str, dict[str, Any]]:
    """What pip tells of each package, by plain name.

    Raises:
        SystemExit: one of constraints.txt is missing, or comes in another version.
    """
    found = {plain(one["metadata"]["name"]): one for one in json.loads(report.read_text())["install"]}
    for name, version in pinned().items():
        told = found.get(plain(name), {"metadata": {"version": "nothing"}})["metadata"]["version"]
        if told != version:
            sys.exit(f"{report}: {name} {told}, constraints.txt has {version}: run make lock again")
    return found


def lock(found: dict[str, dict[str, Any]]) -> str:
    """The lock; names no index, so that any may serve the files."""
    sums = {name: one["download_info"]["archive_info"]["hashes"]["sha256"] for name, one in found.items()}
    rows = [f"{name}=={version} --hash=sha256:{sums[plain(name)]}" for name, version in pinned().items()]
    return HEAD_OF_LOCK + "\n".join(rows) + "\n"


def licence(name: str, told: dict[str, Any]) -> str:
    """As the package says: its SPDX expression, else its classifiers, else its free text.

    Args:
        name: of the package; where it is installed its own record counts, for older pips leave expressions out.
        told: its metadata in pip's report.
    """
    with suppress(metadata.PackageNotFoundError):
        told = metadata.metadata(name).json
    if expression := told.get("license_expression"):
        return str(expression)
    classified = [
        line.rpartition(" :: ")[2].removesuffix(" License")
        for line in told.get("classifier", ())
        if line.startswith("License :: ") and not line.endswith(("OSI Approved", "Other/Proprietary License"))
    ]
    if name in TOLD_ELSEWHERE:
        return TOLD_ELSEWHERE[name]
    return "; ".join(classified) or str(told.get("license", "")).strip().partition("\n")[0][:LONGEST]


def licences(found: dict[str, dict[str, Any]]) -> str:
    """The page."""
    rows = [
        f"| {name} | {version} | {licence(name, found[plain(name)]['metadata']).replace('|', '/')} |"
        for name, version in pinned().items()
    ]
    return HEAD_OF_LICENCES + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    packages = reported(Path(sys.argv[1]))
    LOCK.write_text(lock(packages))
    LICENCES.write_text(licences(packages))
