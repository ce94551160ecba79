"""What the loader did since a moment, as figures for the log."""

import time
from collections.abc import Mapping

import torch

from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.statistics import StageReport
from pclkd.training.compute.distributed import gather_rows, is_alone

__all__ = ["LoaderMeter"]

_GIB = 2**30


class LoaderMeter:
    """Measures from the moment it is made.

    Args:
        loader: the loader.
        device: where batches are delivered.
        already: what `damage` said before the stretch was interrupted.
    """

    def __init__(self, loader: ClipLoader, device: torch.device, already: Mapping[str, int] | None = None) -> None:
        self._loader, self._device, self._already = loader, device, already or {}
        self._began = time.perf_counter()
        self._before = loader.statistics.as_dict()

    @property
    def quarantined(self) -> int:
        """Samples of this process that could not be delivered."""
        return self._loader.statistics.quarantined - int(self._before["quarantined"])

    def report(self) -> StageReport:
        """What each stage of this process did."""
        return self._loader.statistics.since(self._before, time.perf_counter() - self._began)

    def figures(self, processes: int) -> dict[str, float | str]:
        """Speed of the whole job, shares of this process' stages, and memory of its GPU; units stand in the tags."""
        report = self.report()
        figures: dict[str, float | str] = {
            "throughput/clips_per_s": processes * report.clips_per_s,
            **report.tags(),
            "loader/starving": report.starving,
        }
        if self._loader.calibration is not None:
            figures |= self._loader.calibration.tags()
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            figures["memory/gpu_used_gib"] = (total - free) / _GIB
            figures["memory/torch_peak_gib"] = torch.cuda.max_memory_allocated(self._device) / _GIB
        return figures

    def damage(self) -> dict[str, int]:
        """Damaged samples and failed reads, summed over all processes; every one of them must call it.

        Several processes wait for each other and for the device here, one alone does not.
        """
        now = self._loader.statistics.as_dict()
        own = [int(now[name] - self._before[name]) for name in ("quarantined", "damaged_reads")]
        if is_alone():
            samples, reads = own
        else:
            samples, reads = gather_rows(torch.tensor([own], dtype=torch.int64, device=self._device)).sum(0).tolist()
        found = {"data/quarantined_samples": samples, "data/damaged_reads": reads}
        return {name: count + self._already.get(name, 0) for name, count in found.items()}
