"""`bench-throughput compare`."""

from pathlib import Path

import click

from pclkd.benchmarks.options import PATH

__all__ = ["compare"]

_SLOWER = 1


@click.command()
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
@click.pass_context
def compare(ctx: click.Context, before: Path, after: Path) -> None:
    """Tell what changed beyond noise between two results of one benchmark, written with --json.

    Exit code 0: nothing is slower. 1: something is. 2: files that cannot be compared.
    """
    from pclkd.benchmarks.measuring.compare import compare_results, show_changes
    from pclkd.benchmarks.measuring.result import read_result

    results = read_result(before), read_result(after)
    changes = compare_results(*results)
    click.echo(show_changes(*results, changes))
    if any(change.verdict == "slower" for change in changes):
        ctx.exit(_SLOWER)
