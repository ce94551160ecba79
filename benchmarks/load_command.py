"""`bench-throughput load`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pclkd.benchmarks.options import loading, measuring
from pclkd.benchmarks.session import Session

if TYPE_CHECKING:
    from pclkd.benchmarks.load_case import RecipeName

__all__ = ["load"]


@click.command()
@loading
@measuring
def load(
    data: Path,
    recipe: "RecipeName",
    batch_size: int,
    frames: int,
    crop: int | None,
    samples: int | None,
    workers: int,
    session: Session,
) -> None:
    """Clips a second of the loader, beside its bounds: reading alone, and decoding alone.

    plain: crop, flip, normalise. full: colours, blur, pretext task and residual as well.
    """
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.load import LoadBenchmark

    shape = ClipShape(batch_size, frames, crop)
    samples = samples or (16 if session.quick else 64)
    session.finish(LoadBenchmark(data, recipe, shape, samples, workers).run(session))
