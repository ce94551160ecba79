r"""Hours of the loader, of training, and of training that is killed at random: what memory, descriptors and threads do.

    python tests/soak.py run DIR --loader 120 --training 60 --kills 60     # minutes; goes on where it was stopped
    python tests/soak.py tell DIR --picture docs/reliability.png

Not part of the test suite. DIR/samples.jsonl has a line every few seconds; a part whose minutes are full is left out.
Parts may also run side by side: each is a call of its own with the other minutes at 0.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

EVERY_S = 5.0
LIMIT_S = 600.0  # for a resumed run to do its next step, on a machine that is busy with other things
WARM = 1 / 3  # of a part, at most ten minutes of each sitting: caches fill, allocators find their size
PARTS = ("loader", "training", "kills")
# PSS falls when other programs load the same libraries, and samples a second when they take the processor.
SHOWN = {
    **{"uss_mib": "own memory (USS), MiB", "rss_mib": "RSS, MiB", "descriptors": "open files", "threads": "threads"},
    **{"per_cpu_s": "samples per CPU second", "per_s": "samples/s"},
}
DRAWN = ("uss_mib", "descriptors", "threads", "per_cpu_s")
RATES = {"per_s": "elapsed_s", "per_cpu_s": "cpu_s"}
TINY = (
    *("--preset=demo", "--set=backbone.width=0.0625", "--set=loader.crop=16", "--set=loader.batch_size=4"),
    *("--set=pcl.negatives=8", "--set=log_every=1", "--set=checkpoint.every_steps=20", "--set=evaluation.clips=1"),
    *("--set=evaluation.every=20", "--set=evaluation.pretext_passes=1", "--epochs=100000", "--resume"),
)
LOADER = """
import os, sys, time, torch
from pclkd.pipeline import World, clip_loader
counter = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
with clip_loader(sys.argv[1], world=World(), device=torch.device("cpu"), batch_size=4, crop=16, threads=2) as loader:
    done, told = 0, 0.0
    while True:
        for batch in loader:
            done += batch.valid
            if time.monotonic() - told > 1:
                told = time.monotonic()
                os.pwrite(counter, b"%012d" % done, 0)
"""


class Sampler:
    """Appends what a process takes to DIR/samples.jsonl."""

    def __init__(self, folder: Path, part: str, minutes: float) -> None:
        self._file, self._part = folder / "samples.jsonl", part
        before = [line for line in samples(folder) if line["part"] == part]
        self.elapsed_s = max((line["elapsed_s"] for line in before), default=0.0)
        self.sitting = 1 + max((line["sitting"] for line in before), default=0)
        self._end_s = 60 * minutes

    @property
    def full(self) -> bool:
        return self.elapsed_s >= self._end_s

    def sample(self, process: psutil.Process, done: int, **more: Any) -> None:
        """A line about a process that has done so many samples."""
        memory = process.memory_full_info()
        line = {
            **{"part": self._part, "sitting": self.sitting, "elapsed_s": round(self.elapsed_s, 1), "pid": process.pid},
            **{f"{kind}_mib": getattr(memory, kind) / 2**20 for kind in ("rss", "pss", "uss")},
            **{"descriptors": process.num_fds(), "threads": process.num_threads(), "done": done},
            **{"cpu_s": sum(process.cpu_times()[:2]), "load": psutil.getloadavg()[0], **more},
        }
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def ticks(self) -> Iterator[None]:
        """Every few seconds, until the part's minutes are full."""
        before = time.monotonic()
        while not self.full:
            time.sleep(EVERY_S)
            now = time.monotonic()
            self.elapsed_s, before = self.elapsed_s + now - before, now
            yield


def samples(folder: Path) -> list[dict[str, Any]]:
    file = folder / "samples.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def steps(run: Path) -> dict[int, float]:
    """The loss of each step; one that was done again after a kill must have given the same."""
    found: dict[int, float] = {}
    file = run / "metrics.jsonl"
    for text in file.read_text().splitlines() if file.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut short by a kill
        if line["kind"] == "step" and found.setdefault(line["step"], line["loss"]) != line["loss"]:
            raise SystemExit(
                f"step {line['step']} gave {found[line['step']]}, and {line['loss']} when it was done again"
            )
    return found


def trainer(shards: Path, run: Path, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "pclkd.training.cli", "pretrain", f"--data={shards}", f"--out={run}", *TINY]
    return subprocess.Popen(command, stdout=log.open("ab"), stderr=subprocess.STDOUT)


def watch(process: "subprocess.Popen[bytes]", sampler: Sampler, done: Callable[[], int]) -> None:
    """Sample one process to the end of its part, then end it."""
    try:
        for _ in sampler.ticks():
            if process.poll() is not None:
                raise SystemExit(f"it ended by itself with {process.returncode}")
            sampler.sample(psutil.Process(process.pid), done())
    finally:
        process.kill()
        process.wait()


def loader_part(folder: Path, shards: Path, sampler: Sampler) -> None:
    counter = folder / "loader-done"
    counter.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-c", LOADER, str(shards), str(counter)])
    watch(process, sampler, lambda: int(counter.read_text() or 0) if counter.exists() else 0)


def training_part(folder: Path, shards: Path, sampler: Sampler) -> None:
    run = folder / "training"
    process = trainer(shards, run, folder / "training.log")
    watch(process, sampler, lambda: 4 * max(steps(run), default=0))


def kills_part(folder: Path, shards: Path, sampler: Sampler) -> None:
    """Kill, start again, wait for a step that was not done before; over and over."""
    run, kills = folder / "kills", max((line["kills"] for line in samples(folder) if "kills" in line), default=0)
    rng = random.Random(sampler.sitting)
    while not sampler.full:
        before = max(steps(run), default=0)
        process, began = trainer(shards, run, folder / "kills.log"), time.monotonic()
        try:
            back_s, until = None, None
            for _ in sampler.ticks():
                at = max(steps(run), default=0)
                if at > before and back_s is None:
                    back_s = time.monotonic() - began
                    until = time.monotonic() + rng.uniform(0, 30)
                if process.poll() is not None or (back_s is None and time.monotonic() - began > LIMIT_S):
                    raise SystemExit(f"a resumed run came to no further step: exit code {process.poll()}")
                sampler.sample(psutil.Process(process.pid), 4 * at, kills=kills, back_s=back_s)
                if until is not None and time.monotonic() > until:
                    break
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            process.wait(LIMIT_S)
        finally:
            process.kill()  # also where this program is stopped
        kills += 1


def slope_per_hour(hours: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Theil and Sen's slope, the median over all pairs, with the 95 % interval that Kendall's tau gives it."""
    first, second = np.triu_indices(len(values), 1)
    slopes = np.sort((values[second] - values[first]) / (hours[second] - hours[first]))
    n = len(values)
    half = 1.96 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18) / 2
    low, high = (int(np.clip(len(slopes) / 2 + side * half, 0, len(slopes) - 1)) for side in (-1, 1))
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])


def curve(lines: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Minutes and values behind the warm-up of each sitting; a rate is that between two samples of one process."""
    minutes, values = [], []
    for sitting in sorted({line["sitting"] for line in lines}):
        of = [line for line in lines if line["sitting"] == sitting]
        begin, end = of[0]["elapsed_s"], of[-1]["elapsed_s"]
        warm = begin + min(600.0, WARM * (end - begin))
        for before, line in pairwise(of):
            if line["elapsed_s"] < warm or (name in RATES and before["pid"] != line["pid"]):
                continue
            minutes.append(line["elapsed_s"] / 60)
            if name in RATES:
                values.append((line["done"] - before["done"]) / (line[RATES[name]] - before[RATES[name]]))
            else:
                values.append(line[name])
    return np.array(minutes), np.array(values, dtype=float)


@click.group()
def main() -> None:
    """Hours of loader, training and kills."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--loader", default=120.0, show_default=True, help="Minutes.")
@click.option("--training", default=60.0, show_default=True, help="Minutes.")
@click.option("--kills", default=60.0, show_default=True, help="Minutes.")
def run(folder: Path, **minutes: float) -> None:
    """Carry the parts out, or what is left of them."""
    from pclkd.sharding.packing.pack import pack_videos, plan_packing
    from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job that a shell put into the background ignores it
    shards = folder / "shards"
    if not (shards / "manifest.json").exists():
        render_dataset(folder, SynthSettings(classes=4, groups=4, clips=1, frames=96, seed=7), workers=1)
        pack_videos(
            plan_packing(folder / VIDEOS_FOLDER, folder / LISTS_FOLDER, height=32, width=43, videos_per_shard=2), shards
        )
    for part, carry_out in zip(PARTS, (loader_part, training_part, kills_part), strict=True):
        if not (sampler := Sampler(folder, part, minutes[part])).full:
            carry_out(folder, shards, sampler)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--picture", type=click.Path(path_type=Path), default=None, help="PNG to draw the curves into.")
def tell(folder: Path, picture: Path | None) -> None:
    """Drift of each figure as a table for a page, and the curves."""
    lines = samples(folder)
    for part in PARTS:
        of = [line for line in lines if line["part"] == part]
        for name, title in SHOWN.items() if of and part != "kills" else ():
            minutes, values = curve(of, name)
            middle = float(np.median(values))
            slope, low, high = (100 * found / middle for found in slope_per_hour(minutes / 60, values))
            click.echo(
                f"| {part} | {title} | {middle:.4g} | {slope:+.2f} ({low:+.2f} to {high:+.2f}) | {len(values)} |"
            )
        back = {line["kills"]: line["back_s"] for line in of if line.get("back_s")}
        if back:
            took = np.array(list(back.values()))
            told = f"{np.median(took):.0f} s (longest {took.max():.0f} s)"
            click.echo(f"kills: {max(line['kills'] for line in of)}; further steps {told} after each start")
    if picture is not None:
        draw(lines, picture)


def draw(lines: list[dict[str, Any]], picture: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.style import context

    from pclkd.training.report.chart_style import STYLE

    with context(STYLE):
        figure = Figure(figsize=(12, 4.8), dpi=110, layout="constrained")
        for row, part in zip(figure.subplots(2, len(DRAWN), sharex="row"), PARTS[:2], strict=True):
            of = [line for line in lines if line["part"] == part]
            for panel, name in zip(row, DRAWN, strict=True):
                minutes, values = curve(of, name)
                panel.plot(minutes, values, linewidth=1)
                panel.set_title(f"{part}: {SHOWN[name]}", fontsize=8.5)
                panel.set_ylim(0, 1.15 * max(values))
                panel.set_xlabel("minutes")
        figure.savefig(picture, metadata={"Software": None})


if __name__ == "__main__":
    main()
