"""Run as a program: one command of `bench-throughput`, which ends with the process that started it.

python -m pclkd.benchmarks PARENT COMMAND ...
"""

import sys

from pclkd.sharding.common.processes import die_with

__all__ = ["main"]


def main() -> None:
    """Die with the parent; until then be `bench-throughput`."""
    die_with(int(sys.argv.pop(1)))
    from pclkd.benchmarks.cli import main as command

    command(prog_name="bench-throughput")


if __name__ == "__main__":
    main()
