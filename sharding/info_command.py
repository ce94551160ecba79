"""`shard-ucf101 info`."""

import dataclasses
import json

import click

from pclkd.sharding.summary import print_summary, summarise

__all__ = ["info"]


@click.command()
@click.argument("out")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
def info(out: str, as_json: bool) -> None:
    """Tell what the shard set in OUT holds: class balance, lengths, bytes a frame, sizes, splits, quarantine."""
    from pclkd.sharding.bars import print_statistics
    from pclkd.sharding.index import ShardIndex
    from pclkd.sharding.statistics import measure_set

    index = ShardIndex.open(out, check_shards=False)
    statistics = measure_set(index)
    if as_json:
        click.echo(json.dumps({**summarise(index.manifest), "statistics": dataclasses.asdict(statistics)}, indent=1))
        return
    print_summary(index.manifest)
    print_statistics(statistics)
