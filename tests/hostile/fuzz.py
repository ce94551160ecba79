"""Hostile cases without end: fresh seeds for some minutes, and what is found written down to be kept.

python tests/hostile/fuzz.py --minutes 10 [--seed N] [--only NAME ...]
"""

import argparse
import hashlib
import json
import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import folders
import frames
import listed
import records
import sets
import weights
from cases import Target, from_json, to_json
from hypothesis import HealthCheck, Phase, given, seed, settings

__all__ = ["KEPT", "TARGETS", "kept_cases", "run_case", "search"]

KEPT = Path(__file__).with_name("kept")
TARGETS = {
    target.name: target
    for module in (listed, sets, frames, records, weights, folders, commands)
    for target in module.TARGETS
}


def kept_cases() -> list[tuple[str, str, Any]]:
    """File name, target and case of everything that was found once."""
    found = [(file.name, json.loads(file.read_text())) for file in sorted(KEPT.glob("*.json"))]
    return [(name, told["target"], from_json(told["case"])) for name, told in found]


def run_case(target: Target, case: Any) -> None:
    """Check a case in an empty folder."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        target.check(case, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def search(target: Target, examples: int, number: int | None, tried: Callable[[Any], None] = lambda case: None) -> None:
    """Try so many cases, the same ones for every `number`; None: those of the test suite.

    Raises:
        Exception: what the simplest case that breaks the promise ended in; `tried` is called with that one last.
    """

    def check(case: Any) -> None:
        tried(case)
        run_case(target, case)

    phases = (Phase.generate, Phase.shrink) if number is not None else (Phase.generate,)
    quiet = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=number is None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    test = quiet(given(target.cases)(check))
    (test if number is None else seed(number)(test))()


def keep(target: Target, case: Any, number: int, error: BaseException) -> Path:
    """Write a finding down: what breaks the promise, as a file that the test suite tries from then on."""
    told = {"target": target.name, "seed": number, "error": repr(error)[:500], "case": to_json(case)}
    text = json.dumps(told, indent=1) + "\n"
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{target.name}-{hashlib.sha256(json.dumps(told['case']).encode()).hexdigest()[:10]}.json"
    path.write_text(text)
    return path


def main() -> None:
    """Fuzz until the time is over; exit code 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="Of the first round; by default a new one.")
    parser.add_argument("--only", nargs="*", default=sorted(TARGETS), choices=sorted(TARGETS))
    given_options = parser.parse_args()
    first = random.SystemRandom().randrange(2**31) if given_options.seed is None else given_options.seed
    end, counts, found = time.monotonic() + 60 * given_options.minutes, Counter[str](), []
    number = first
    while time.monotonic() < end:
        for name in given_options.only:
            target, last = TARGETS[name], [None]

            def tried(case: Any, name: str = name, last: list[Any] = last) -> None:
                counts[name] += 1
                last[0] = case

            try:
                search(target, max(5, target.examples // 5), number, tried)
            except Exception as error:
                found.append(keep(target, last[0], number, error))
                print(f"FOUND {found[-1].name} (seed {number}):", flush=True)
                traceback.print_exception(error, limit=-6)
            if time.monotonic() > end:
                break
        number += 1
    told = ", ".join(f"{name} {counts[name]}" for name in given_options.only)
    print(f"{sum(counts.values())} cases from seed {first} on ({told}): {len(found)} findings")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
