"""Commands disturbed at any moment, over and over: nothing is lost, and the end is that of an undisturbed run."""

from pathlib import Path

import pytest
from disturbance import KILLS, Disturber
from victims import evaluating, packing, reporting, training
from zygote import Zygote

# Of the kills of the whole suite, those of each kind of command.
SHARES = {
    **{"pack": 0.3, "pretrain": 0.2, "distill": 0.15, "pretrain by two": 0.1, "distill by two": 0.1},
    **{"evaluate": 0.1, "report": 0.05},
}


@pytest.mark.parametrize("kind", SHARES)
def test_disturbed_at_any_moment(
    kind: str, synthetic_videos, shards: Path, run: Path, zygote: Zygote, tmp_path: Path
) -> None:
    victim = {
        "pack": packing(synthetic_videos.videos, synthetic_videos.splits),
        "pretrain": training(shards),
        "distill": training(shards, run),
        "pretrain by two": training(shards, ranks=2),
        "distill by two": training(shards, run, ranks=2),
        "evaluate": evaluating(shards, run),
        "report": reporting(run),
    }[kind]
    Disturber(zygote, victim, tmp_path).disturb(max(1, round(KILLS * SHARES[kind])))
