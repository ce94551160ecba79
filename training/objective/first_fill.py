"""The rows that memory banks start with, where they are to come from the networks.

A bank of random rows tells a small data set nothing until each video has come by a few times: the published recipe has
epochs of 600 steps for that, a few hundred videos a dozen.
"""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from pclkd.pipeline.batch import ClipBatch
from pclkd.training.compute.distributed import summed
from pclkd.training.models.pcl_model import PclModel, PclOutput
from pclkd.training.objective.bank import BankContrast

__all__ = ["fill_banks", "seen_by", "untrained"]


def seen_by(batch: ClipBatch, view: int | None) -> torch.Tensor:
    """What a network sees of a batch: the clips, or one of `batch.moments`."""
    return batch.clips if view is None else batch.moments[view]


def untrained(student: PclModel) -> PclModel:
    """A copy of a network that has learned nothing, to ask for embeddings.

    It normalises by each batch's own statistics, on this process alone: those that it has yet to learn would leave all
    embeddings in one cone (384 rendered videos, R3D of a quarter of the width: a spread of 0.14 instead of 0.45).
    """
    network = copy.deepcopy(student).eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean = module.running_var = None
    return network


@torch.inference_mode()
def fill_banks(banks: Sequence[tuple[PclModel, int | None, BankContrast]], batches: Iterable[ClipBatch]) -> int:
    """Set the row of each video to what its network says of the first and of the third clip.

    The processes share the videos, and all of them get all rows. A video that does not come, or whose embedding is not
    finite, keeps its random row.

    Args:
        banks: networks in the mode in which they are to be asked, each with what it sees (`seen_by`) and its banks.
        batches: this process' share of the training videos, each of them once; every process must call.

    Returns:
        Videos that came, on all processes.
    """
    found = {bank: torch.zeros(2, *bank.first.rows.shape, device=bank.first.rows.device) for *_, bank in banks}
    rows_of_first = banks[0][2].first.rows
    came = torch.zeros(len(rows_of_first), device=rows_of_first.device)
    for batch in batches:
        rows = batch.sample_index[: batch.valid]
        came[rows] = 1
        for network, view, bank in banks:
            said: PclOutput = network(seen_by(batch, view))
            found[bank][:, rows] = torch.stack((said.first, said.third))[:, : batch.valid]
    came = summed(came)
    for bank, rows_of_clips in found.items():
        for own, new in zip((bank.first, bank.third), summed(rows_of_clips), strict=True):
            known = (came > 0) & new.isfinite().all(dim=1)
            own.rows.copy_(torch.where(known[:, None], new, own.rows))
        bank.random_for = 0
    return int(came.sum())
