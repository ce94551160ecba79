"""`bench-throughput load`."""

from itertools import chain

import click

from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.options import COUNTS, Loaded, loading, measuring

__all__ = ["load"]


@click.command()
@loading
@click.option("--threads", type=COUNTS, multiple=True, help="Also with so many threads each, as 1,2,4.")
@measuring
def load(loaded: Loaded, threads: tuple[tuple[int, ...], ...], session: Session) -> None:
    """Clips a second of the loader, beside its bounds: reading alone, and decoding alone.

    With --threads also with other numbers of threads; the bound is then as many times the fewest.

    plain: crop, flip, normalise. full: colours, blur, pretext task and residual as well.
    """
    from pclkd.benchmarks.loading.benchmark import LoadBenchmark

    samples = loaded.samples_at_most(quick=session.quick)
    several = tuple(sorted(set(chain(*threads))))
    benchmark = LoadBenchmark(loaded.data, loaded.recipe, loaded.shape(), samples, loaded.workers, several)
    session.finish(benchmark.run(session))
