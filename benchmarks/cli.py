"""The command line `bench-throughput`: one module a command.

Heavy imports stay inside the commands, so that `--help` answers at once.
"""

import click

from pclkd.benchmarks.compare_command import compare
from pclkd.benchmarks.load_command import load
from pclkd.benchmarks.peers_command import peers
from pclkd.benchmarks.scale_command import scale
from pclkd.benchmarks.shard_command import shard
from pclkd.benchmarks.step_command import step
from pclkd.benchmarks.suite.command import measure_all
from pclkd.benchmarks.teacher_command import teacher
from pclkd.benchmarks.train_command import train
from pclkd.sharding.common.console import CleanGroup

__all__ = ["main"]


@click.group(cls=CleanGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pclkd")
def main() -> None:
    """Measure throughput: warm-up, interleaved rounds, median and spread, hardware and versions."""


for _command in (compare, load, measure_all, peers, scale, shard, step, teacher, train):
    main.add_command(_command)


if __name__ == "__main__":
    main()
