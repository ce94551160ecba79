"""The options of `shard-ucf101 pack` that say what the videos are."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

__all__ = ["dataset_options"]

# `pclkd.sharding.datasets.registry` says the same to type checkers, but loading it takes long.
_LAYOUTS = ("auto", "ucf101", "hmdb51", "kinetics", "folder", "csv")


def dataset_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options, and call it with `source`: keyword arguments of `plan_packing`."""

    @wraps(command)
    def collect(*args: Any, splits: str | None, dataset: str, test_share: float, **rest: Any) -> None:
        command(*args, source={"splits": splits, "dataset": dataset, "test_share": test_share}, **rest)

    for option in (
        click.option(
            "--test-share",
            type=float,
            default=0.0,
            help="Share of the groups or videos to hold out as the test part, where no list tells one.  [default: 0]",
        ),
        click.option(
            "--dataset",
            type=click.Choice(_LAYOUTS),
            default="auto",
            show_default=True,
            help="Layout of the lists; auto tells what it found.",
        ),
        click.option("--splits", type=str, help="Folder of the lists, or a table (.csv); path or URL."),
    ):
        collect = option(collect)
    return collect
