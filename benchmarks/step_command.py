"""`bench-throughput step`."""

import click
from click.core import ParameterSource

from pclkd.benchmarks.measuring.session import Session
from pclkd.benchmarks.options import Trained, measuring, training
from pclkd.sharding.common.errors import InputError

__all__ = ["step"]


@click.command()
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
