"""Run as a program: one command of `bench-throughput`, which ends with the process that started it.

python -m pclkd.benchmarks.section_process PARENT COMMAND ...
"""

import ctypes
import os
import signal
import sys

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Die with the parent; until then be `bench-throughput`."""
    parent = int(sys.argv.pop(1))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it is gone already
        sys.exit(1)
    from pclkd.benchmarks.cli import main as command

    command(prog_name="bench-throughput")


if __name__ == "__main__":
    main()
