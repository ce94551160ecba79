import threading
import time
from pathlib import Path

import pytest
import torch

from pclkd.pipeline import clip_loader
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.pipeline.world import World


def test_a_report_is_the_work_done_in_a_stretch_of_time() -> None:
    statistics = LoaderStatistics(readers=4, read_s=100.0, clips=7)
    before = statistics.as_dict()
    statistics.add(read_s=4.0, checksum_s=2.0, decode_s=1.5, wait_s=0.2)
    statistics.add(bytes_read=3 * 2**20, bytes_fetched=2**20, frames=160, clips=10)
    report = statistics.since(before, 2.0)
    assert (report.read_pct, report.checksum_pct) == (50, 25)  # of four threads in two seconds
    assert (report.decode_pct, report.wait_pct) == (75, 10)
    assert (report.read_mib_per_s, report.fetched_mib_per_s) == (1.5, 0.5)
    assert (report.frames_per_s, report.clips_per_s) == (80, 5)
    assert report.starving == "decode"
    assert report.tags()["time/loader_decode_pct"] == 75 and report.tags()["throughput/read_mib_per_s"] == 1.5
    assert "wait 10% (for decode)" in str(report)


@pytest.mark.parametrize(
    ("busy", "wait_s", "starving"),
    [
        ({"read_s": 1.8, "decode_s": 0.5}, 0.5, "read"),
        ({"checksum_s": 1.8, "decode_s": 0.5}, 0.5, "checksum"),
        ({"read_s": 1.8, "decode_s": 0.95}, 0.5, "decode"),
        ({"read_s": 1.8, "decode_s": 0.95}, 0.04, "none"),  # the trainer hardly waits: nothing starves it
    ],
)
def test_the_busiest_stage_is_named_where_the_trainer_waits(
    busy: dict[str, float], wait_s: float, starving: str
) -> None:
    statistics = LoaderStatistics(readers=2)
    before = statistics.as_dict()
    statistics.add(**busy, wait_s=wait_s)
    assert statistics.since(before, 1.0).starving == starving


def test_threads_add_without_loss() -> None:
    statistics = LoaderStatistics()
    threads = [
        threading.Thread(target=lambda: [statistics.add(clips=1, bytes_read=2) for _ in range(2000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (statistics.clips, statistics.bytes_read) == (8000, 16000)


def test_a_loader_counts_what_it_delivers(synthetic_shards: Path) -> None:
    tuples = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
    with clip_loader(
        synthetic_shards, world=World(), device=torch.device("cpu"), batch_size=4, crop=48, tuples=tuples, threads=2
    ) as loader:
        before, began = loader.statistics.as_dict(), time.perf_counter()
        assert len(list(loader.epoch(0))) == 3
        report = loader.statistics.since(before, time.perf_counter() - began)
    statistics = loader.statistics
    assert (statistics.samples, statistics.clips, statistics.frames) == (12, 36, 288)
    assert (statistics.quarantined, statistics.damaged_reads, statistics.bytes_fetched) == (0, 0, 0)
    assert min(statistics.read_s, statistics.checksum_s, statistics.decode_s) > 0
    assert statistics.readers == 2
    assert 0 < report.decode_pct <= 101 and report.wait_pct <= 101
    assert report.frames_per_s == pytest.approx(8 * report.clips_per_s)
