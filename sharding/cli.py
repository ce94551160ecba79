"""The command line `shard-ucf101`: one module a command.

Heavy imports stay inside the commands, so that `--help` answers at once.
"""

import click

from pclkd.sharding.common.console import CleanGroup
from pclkd.sharding.info_command import info
from pclkd.sharding.pack_command import pack
from pclkd.sharding.preview_command import preview
from pclkd.sharding.synth_command import synth
from pclkd.sharding.verify_command import verify

__all__ = ["main"]


@click.group(cls=CleanGroup)
@click.version_option(package_name="pclkd")
def main() -> None:
    """Turn action videos into shards that a training run reads at full speed."""


for _command in (synth, pack, verify, info, preview):
    main.add_command(_command)
