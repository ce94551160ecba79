"""The command line `bench-throughput`.

Heavy imports stay inside the commands, so that `--help` answers at once.
"""

from itertools import chain
from pathlib import Path

import click
from click.core import ParameterSource

from pclkd.benchmarks.gpu.command import find_section, prove
from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.options import COUNTS, PATH, Loaded, Trained, has_gpu, loading, measuring, training
from pclkd.benchmarks.suite.command import measure_all
from pclkd.sharding.common.console import CleanGroup
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.options import SIZE

__all__ = ["main"]


@click.group(cls=CleanGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pclkd")
def main() -> None:
    """Measure throughput: warm-up, interleaved rounds, median and spread, hardware and versions."""


@main.command()
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


@main.command()
@loading
@click.option("--videos", type=PATH, default=None, help="The originals; without them their readers are left out.")
@click.option("--splits", type=PATH, default=None, help="The lists that belong to --videos, where they have some.")
@measuring
def peers(videos: Path | None, splits: Path | None, loaded: Loaded, session: Session) -> None:
    """Clips a second of the loader, beside what people write without it: same clips, same work.

    From the originals: torch's DataLoader with PyAV, decord and torchcodec. From the shards: webdataset with Pillow,
    DALI's own webdataset reader, and folders of JPEG frames read by 16 processes. What is not installed is named.

    plain: crop, flip, normalise. full: colours, blur, pretext task and residual as well.
    """
    from pclkd.benchmarks.peers.benchmark import PeerBenchmark

    if videos is None:
        _refuse_given("peers without --videos", "splits")
    samples = loaded.samples_at_most(quick=session.quick)
    benchmark = PeerBenchmark(loaded.data, videos, splits, loaded.recipe, loaded.shape(), samples, loaded.workers)
    session.finish(benchmark.run(session))


@main.command()
@click.option("--data", required=True, help="Shard set of shard-ucf101 pack; for --videos it is repeated.")
@click.option(
    "--videos",
    type=COUNTS,
    multiple=True,
    help="Sizes of data sets, as 1000,10000.  [default: 1000, 10000, 100000, 1000000; quick: 1000, 100000]",
)
@click.option(
    "--processes",
    type=COUNTS,
    multiple=True,
    help="Sizes of training jobs, as 1,2.  [default: 1, 2, 4, 8, as many as there are GPUs, or cores without one]",
)
@click.option("--split", type=click.IntRange(min=1), default=1, show_default=True, help="Jobs train on its train part.")
@click.option("--steps", type=click.IntRange(min=1), default=None, help="Of a pass.  [default: 50; 5 without a GPU]")
@click.option("--scratch", type=PATH, default=None, help="Folder for the large sets: 3 GB a million UCF101 videos.")
@training
@measuring
def scale(
    data: str,
    videos: tuple[tuple[int, ...], ...],
    processes: tuple[tuple[int, ...], ...],
    split: int,
    steps: int | None,
    scratch: Path | None,
    trained: Trained,
    session: Session,
) -> None:
    """What growth costs: larger data sets, and jobs of more processes; with --videos or --processes, that one alone.

    Videos: seconds and memory to open a shard set and to get its first batch (16 samples of 16 frames and 112 pixels by
    default). Processes: samples a second of training end to end, beside N times one process; bytes that are exchanged
    and read.
    """
    from pclkd.benchmarks.growth.benchmark import ScaleBenchmark, with_processes
    from pclkd.benchmarks.measuring.clip_shape import ClipShape
    from pclkd.benchmarks.processes.benchmark import ProcessScaleBenchmark, usual_processes

    both = bool(videos) == bool(processes)
    if not both and videos:
        _refuse_given("--videos alone, which trains nothing", "backbone", "teacher", "width", "split", "steps")
    if not both and processes:
        _refuse_given("--processes alone, which makes no large sets", "scratch")
    found = None
    if videos or both:
        usual = (1000, 100_000) if session.quick else (1000, 10_000, 100_000, 1_000_000)
        frames = 16 if trained.frames is None else trained.frames
        shape = ClipShape(trained.batch_size or 16, frames, trained.crop)
        sizes = tuple(chain(*videos)) or usual
        found = ScaleBenchmark(data, sizes, shape, scratch).run(session.share(0.5) if both else session)
    if processes or both:
        networks = trained.networks(trained.teacher)
        steps = steps or (50 if has_gpu() else 5)
        counts = tuple(chain(*processes)) or tuple(usual_processes())
        jobs = ProcessScaleBenchmark(data, split, networks, trained.shape(), steps, counts).run(session)
        found = jobs if found is None else with_processes(found, jobs)
    if found is not None:
        session.finish(found)


@main.command()
@click.option("--videos", type=PATH, required=True, help="Folder of videos.")
@click.option("--splits", type=PATH, default=None, help="The lists that belong to --videos, where they have some.")
@click.option("--size", type=SIZE, default="128x171", show_default=True, help="Stored frame size, pixels.")
@click.option("--quality", type=int, default=90, show_default=True, help="JPEG quality, 1 to 95.")
@click.option(
    "--most", type=click.IntRange(min=1), default=None, help="Videos a pass, at most.  [default: 24; quick: 6]"
)
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes of a whole run.  [one a core]")
@measuring
def shard(
    videos: Path,
    splits: Path | None,
    size: tuple[int, int],
    quality: int,
    most: int | None,
    workers: int,
    session: Session,
) -> None:
    """Source frames a second and core on the way to JPEG: ours, the plain loop, each stage alone, and a whole run."""
    from pclkd.benchmarks.packing.benchmark import ShardBenchmark
    from pclkd.sharding.video.settings import PackSettings

    settings = PackSettings(*size, quality=quality)
    most, run_frames = most or (6 if session.quick else 24), 4_000 if session.quick else 40_000
    session.finish(ShardBenchmark(videos, splits, settings, most, run_frames, workers).run(session))


@main.command()
@click.option("--options", is_flag=True, help="Time each choice that the step makes: as trained, and otherwise.")
@click.option("--peers", is_flag=True, help="Beside a plain PyTorch loop instead, with torchvision's r3d_18.")
@training
@measuring
def step(*, options: bool, peers: bool, trained: Trained, session: Session) -> None:
    """Samples a second of the training step alone, PCL and PCL+KD, on clips that stay on the device.

    Without --teacher the teacher has the student's architecture. With --peers there is none, unless --teacher r3d_18
    asks for it, and without a GPU the clips are smaller: 4 samples of 8 frames, 32 pixels a side.
    """
    if peers:
        _refuse_unfit(trained, options=options)
        from pclkd.benchmarks.steps.peers import StepPeersBenchmark, peer_shape

        shape = peer_shape(trained.batch_size, trained.frames, trained.crop)
        session.finish(StepPeersBenchmark(shape, distil=trained.teacher is not None).run(session))
        return
    from pclkd.benchmarks.steps.benchmark import StepBenchmark

    networks = trained.networks(trained.teacher or trained.backbone)
    session.finish(StepBenchmark(networks, trained.shape(), options).run(session))


def _refuse_unfit(trained: Trained, *, options: bool) -> None:
    from pclkd.benchmarks.steps.peers import PEER_BACKBONE

    backbone, teacher, width = trained.backbone, trained.teacher, trained.width
    given = click.get_current_context().get_parameter_source("backbone")
    told = {
        "--options": options,
        f"--backbone {backbone}": given is not ParameterSource.DEFAULT and backbone != PEER_BACKBONE,
        f"--teacher {teacher}": teacher not in {None, PEER_BACKBONE},
        f"--width {width}": width not in {None, 1.0},
    }
    for option, unfit in told.items():
        if unfit:
            raise InputError(
                f"{option} does not go with --peers, which trains {PEER_BACKBONE}", remedy="leave one of them out"
            )


def _refuse_given(what: str, *names: str) -> None:
    """Refuse options that this call would not heed."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise InputError(f"--{name} {context.params[name]} does not go with {what}", remedy="leave one of them out")


@main.command("teacher")
@training
@measuring
def teacher(trained: Trained, session: Session) -> None:
    """What the teacher's logits cost on the fly: steps with and without it, beside its share of the arithmetic.

    Without --teacher the teacher has the student's architecture.
    """
    from pclkd.benchmarks.steps.teacher import TeacherBenchmark

    networks = trained.networks(trained.teacher or trained.backbone)
    session.finish(TeacherBenchmark(networks, trained.shape()).run(session))


@main.command()
@click.option("--data", required=True, help="Shard set of shard-ucf101 pack, a folder or a URL.")
@click.option("--split", type=click.IntRange(min=1), default=1, show_default=True, help="Its train part is used.")
@click.option(
    "--steps", type=click.IntRange(min=1), default=None, help="A pass, at most.  [default: 50; 5 without a GPU]"
)
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Loader threads.  [default: one a core]")
@training
@measuring
def train(
    data: str,
    split: int,
    steps: int | None,
    workers: int,
    trained: Trained,
    session: Session,
) -> None:
    """Samples a second of training end to end, beside the same step alone and the loader alone.

    Without --teacher it is PCL alone, with one PCL+KD.
    """
    from pclkd.benchmarks.steps.train import TrainBenchmark

    networks, steps = trained.networks(trained.teacher), steps or (50 if has_gpu() else 5)
    session.finish(TrainBenchmark(data, split, networks, trained.shape(), steps, workers).run(session))


_SLOWER = 1


@main.command()
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


for command in (measure_all, prove, find_section):
    main.add_command(command)


if __name__ == "__main__":
    main()
