import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pclkd.pipeline import clip_loader
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.loader import calibrate
from pclkd.pipeline.loader.calibrate import choose_decoder, choose_operators, race
from pclkd.pipeline.pixels.dali import FrameDecoder, FrameGraph
from pclkd.sharding.common.errors import InputError

TUPLES = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
GRAPH = FrameGraph(2, (48, 48), "fused", "cpu", torch.device("cpu"), 1)


class Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[str] = []

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """A piece of work that takes so long, the first time, the second time ...; the last one stays."""
        rest = list(seconds)

        def run() -> None:
            self.done.append(name)
            self.now += rest.pop(0) if len(rest) > 1 else rest[0]

        return run


def test_the_shortest_time_behind_the_warm_up_counts() -> None:
    clock = Clock()
    ways = {"cpu": clock.work("cpu", 0.1, 0.5, 0.3, 0.4), "mixed": clock.work("mixed", 9.0, 0.2, 0.25)}
    assert race(ways, 1000, rounds=3, clock=lambda: clock.now) == pytest.approx({"cpu": 0.3, "mixed": 0.2})
    assert clock.done == ["cpu", "mixed"] * 4  # taking turns; the slow first call of the winner did not count


@pytest.mark.parametrize(("deadline", "rounds"), [(0.0, 1), (3.9, 1), (4.0, 2), (4.9, 2), (5.0, 3), (99.0, 5)])
def test_rounds_that_would_not_end_in_time_are_not_begun(deadline: float, rounds: int) -> None:
    clock = Clock()
    # From 1.0 on a warm-up of 1 s and rounds of 1 s, both ways together: round k ends at 2 + k.
    ways = {"cpu": clock.work("cpu", 0.5), "mixed": clock.work("mixed", 0.5)}
    clock.now = 1.0
    best = race(ways, deadline, clock=lambda: clock.now)
    assert best == pytest.approx({"cpu": 0.5, "mixed": 0.5})
    assert len(clock.done) == 2 * (1 + rounds)
    assert clock.now <= max(deadline, 3.0)


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_without_a_gpu_the_cpu_decodes_and_nothing_is_raced(wanted: str, caplog: pytest.LogCaptureFixture) -> None:
    def probe() -> None:
        raise AssertionError("a batch was read for a race of one")

    with caplog.at_level(logging.INFO, logger="pclkd.pipeline.loader.calibrate"):
        decoder, found = choose_decoder(GRAPH, wanted, probe)
    decoder.close()
    assert found.decode == decoder.graph.decode == "cpu"
    assert not found.frames_per_s and found.gpu_mib == 0
    assert "decode=cpu" in caplog.text and ("no GPU" in caplog.text) == (wanted == "auto")


def test_the_report_tells_rates_time_and_memory() -> None:
    decoder, found = choose_decoder(GRAPH, "cpu", lambda: None)
    decoder.close()
    rates = {"cpu": 900.4, "mixed": 5000.0}
    told = str(dataclasses.replace(found, decode="mixed", seconds=1.25, frames_per_s=rates, gpu_mib=321.4))
    for part in ("decode=mixed", "cpu 900 frames/s", "mixed 5000 frames/s", "1.2 s", "321 MiB of GPU memory"):
        assert part in told
    known = dataclasses.replace(found, seconds=1.25, frames_per_s=rates, gpu_mib=512.0)
    assert known.tags() == {
        "loader/decode": "cpu",
        "time/calibration_s": 1.25,
        "throughput/calibrated_cpu_frames_per_s": 900.4,
        "throughput/calibrated_mixed_frames_per_s": 5000.0,
        "memory/decoder_gib": 0.5,
    }


GPU = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("device", "wanted", "changed", "fault", "expected", "why"),
    [
        (torch.device("cpu"), "auto", True, "off", ("fused", "auto"), "a CPU"),
        (torch.device("cpu"), "kernels", True, "off", ("fused", "auto"), "a CPU"),  # what a GPU's run had
        (GPU, "auto", True, "", ("kernels", "kernels"), "equal"),
        (GPU, "kernels", False, "", ("kernels", "kernels"), "as set"),
        (GPU, "auto", True, "they are off: rgb_mean 9", ("graph", "dali"), "rgb_mean 9"),
        (GPU, "auto", False, "they fail: no compiler", ("none", "dali"), "no compiler"),
        (GPU, "dali", True, "", ("graph", "dali"), "as set"),
    ],
)
def test_kernels_are_taken_where_they_are_right(
    device: torch.device,
    wanted: Any,
    changed: bool,
    fault: str,
    expected: tuple[str, str],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibrate, "kernels_fault", lambda device: fault)
    *found, reason = choose_operators(device, wanted, changed=changed)
    assert tuple(found) == expected and why in reason


def test_kernels_that_are_asked_for_and_wrong_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "kernels_fault", lambda device: "they fail: no compiler")
    with pytest.raises(InputError, match=r"no compiler on cuda:0.*operators=dali"):
        choose_operators(GPU, "kernels", changed=True)


def test_what_was_chosen_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pclkd.pipeline.loader.calibrate"):
        decoder, found = choose_decoder(GRAPH, "cpu", lambda: None, ("dali", "kernels: they fail: no compiler"))
    decoder.close()
    assert "operators=dali (kernels: they fail: no compiler)" in caplog.text
    assert found.tags()["loader/operators"] == "dali" and found.path == ("cpu", "dali")


def test_a_batch_that_cannot_be_decoded_ends_the_race_and_no_run(
    synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage that decodes it again replaces what is damaged; here a GPU is played by the CPU."""
    with clip_loader(synthetic_shards, device=torch.device("cpu"), batch_size=4, crop=48, tuples=TUPLES) as loader:
        graph, sound = loader._graph("fused"), loader._first_batch()
    assert sound is not None
    damaged = dataclasses.replace(sound, jpegs=[sound.jpegs[0][:800].copy(), *sound.jpegs[1:]])
    made: list[FrameDecoder] = []

    def on_the_cpu(graph: FrameGraph) -> FrameDecoder:
        made.append(FrameDecoder(dataclasses.replace(graph, decode="cpu", device=torch.device("cpu"))))
        return made[-1]

    monkeypatch.setattr(calibrate, "FrameDecoder", on_the_cpu)
    monkeypatch.setattr(calibrate, "_free_mib", lambda device: 0.0)
    decoder, found = choose_decoder(dataclasses.replace(graph, device=GPU), "auto", lambda: damaged)
    assert found.reason == "no batch to try" and not found.frames_per_s
    assert decoder is made[2]
    assert decoder.decode(sound.jpegs, sound.plan.augment).shape == (4, 3, 3, 8, 48, 48)
    decoder.close()


def test_the_loader_tells_what_it_chose(synthetic_shards: Path) -> None:
    with clip_loader(synthetic_shards, device=torch.device("cpu"), batch_size=4, crop=48, tuples=TUPLES) as loader:
        assert loader.calibration is None
        next(iter(loader))
        assert loader.calibration is not None and loader.calibration.decode == "cpu"
