"""`bench-throughput step`."""

import click
from click.core import ParameterSource

from pclkd.benchmarks.options import measuring, networks, sized
from pclkd.benchmarks.session import Session
from pclkd.sharding.errors import InputError

__all__ = ["step"]


@click.command()
@click.option("--options", is_flag=True, help="Time each choice that the step makes: as trained, and otherwise.")
@click.option("--peers", is_flag=True, help="Beside a plain PyTorch loop instead, with torchvision's r3d_18.")
@networks
@measuring
def step(
    *,
    options: bool,
    peers: bool,
    backbone: str,
    teacher: str | None,
    width: float | None,
    batch_size: int | None,
    frames: int | None,
    crop: int | None,
    session: Session,
) -> None:
    """Samples a second of the training step alone, PCL and PCL+KD, on clips that stay on the device.

    Without --teacher the teacher has the student's architecture. With --peers there is none, unless --teacher r3d_18
    asks for it, and without a GPU the clips are smaller: 4 samples of 8 frames, 32 pixels a side.
    """
    if peers:
        _peers(options, backbone, teacher, width, batch_size, frames, crop, session)
        return
    from pclkd.benchmarks.step import StepBenchmark

    trained, shape = sized(backbone, teacher or backbone, width, batch_size, frames, crop)
    session.finish(StepBenchmark(trained, shape, options).run(session))


def _peers(
    options: bool,
    backbone: str,
    teacher: str | None,
    width: float | None,
    batch_size: int | None,
    frames: int | None,
    crop: int | None,
    session: Session,
) -> None:
    from pclkd.benchmarks.step_peers import PEER_BACKBONE, StepPeersBenchmark, peer_shape

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
    shape = peer_shape(batch_size, frames, crop)
    session.finish(StepPeersBenchmark(shape, distil=teacher is not None).run(session))
