"""The options of `shard-ucf101 pack` that say where and how the work is done."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

__all__ = ["engine_options"]


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options, and call it with `work`: keyword arguments of `pack_videos`."""

    @wraps(command)
    def collect(
        *args: Any, workers: int | None, engine: str, ray_address: str | None, file_timeout: float, **rest: Any
    ) -> None:
        from pclkd.sharding.packing.supervise import Limits

        limits = Limits(file_seconds=file_timeout)
        work = {"workers": workers, "engine": engine, "ray_address": ray_address, "limits": limits}
        command(*args, work=work, **rest)

    for option in (
        click.option(
            "--file-timeout",
            type=float,
            default=600.0,
            show_default=True,
            help="Seconds without a further frame after which a video is given up.",
        ),
        click.option("--ray-address", help="Ray cluster to join.  [default: $RAY_ADDRESS, else one on this machine]"),
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Processes of this machine, or a Ray cluster.",
        ),
        click.option("--workers", type=click.IntRange(min=1), help="Processes.  [default: one a processor]"),
    ):
        collect = option(collect)
    return collect
