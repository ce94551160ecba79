"""Sound files that are made hostile: a tiny shard set, run folders, and JPEGs of every kind."""

import hashlib
import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH, FRAMES = 32, 48, 24
CLASSES = ("Jump", "Run")


def jpeg(height: int = HEIGHT, width: int = WIDTH, seed: int = 0, mode: str = "RGB", **how: Any) -> bytes:
    """A picture of soft colours."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR).convert(mode)
    file = io.BytesIO()
    picture.save(file, "JPEG", **{"quality": 85, "subsampling": "4:2:0", **how})
    return file.getvalue()


def declaring(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose frame header tells another size."""
    at = next(at for at in range(len(data)) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC1, 0xC2))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def make_shards(out: Path, change: Callable[[int, int, bytes], bytes] = lambda video, frame, data: data) -> Path:
    """A shard set of four videos in two classes, written as the packer writes it.

    Args:
        out: its folder, which is made.
        change: makes a frame, of a video and its number, another; all checksums are right afterwards.
    """
    from pclkd.sharding.datasets.dataset import Dataset, Video
    from pclkd.sharding.packing.assemble import index_columns, shard_manifest
    from pclkd.sharding.packing.task import PackedVideo, ShardResult
    from pclkd.sharding.shards.columns import write_columns
    from pclkd.sharding.shards.manifest import ShardRecord
    from pclkd.sharding.shards.tar import TarWriter, webdataset_index
    from pclkd.sharding.video.settings import PackSettings

    (out / "index").mkdir(parents=True)
    tar = out / "set-000000.tar"
    packed = []
    with tar.open("wb+") as file:
        writer = TarWriter(file)
        for number in range(4):
            label, part = number % 2, "train" if number < 2 else "test"
            video = Video("", f"{CLASSES[label]}/v{number}.avi", f"v{number}", label, number, {1: part})
            frames = [change(number, frame, jpeg(seed=number * FRAMES + frame)) for frame in range(FRAMES)]
            start = writer.position
            offset = writer.add(f"{video.key}.mjpeg", b"".join(frames)).offset
            about = {"key": video.key, "class": CLASSES[label], "label": label, "group": number, "fps": 25.0}
            about |= {"frames": FRAMES, "height": HEIGHT, "width": WIDTH, "source": video.relative}
            about |= {"source_sha256": hashlib.sha256(bytes([number])).hexdigest()}
            text = json.dumps(about).encode()
            writer.add(f"{video.key}.json", text)
            lengths = np.array([len(frame) for frame in frames], np.int32)
            sums = np.array([zlib.crc32(frame) for frame in frames], np.uint32)
            size = writer.position - start
            packed.append(
                PackedVideo(video, offset, lengths, sums, size, HEIGHT, WIDTH, len(text), about["source_sha256"])
            )
        writer.finish()
    data = tar.read_bytes()
    for video in packed:
        video.crc32 = zlib.crc32(data[video.start : video.start + video.size])
        video.fps = 25.0
    entries = [entry for video in packed for entry in video.entries]
    tar.with_suffix(".idx").write_text(webdataset_index(entries))
    record = ShardRecord(tar.name, len(data), len(packed), hashlib.sha256(data).hexdigest())
    results = [ShardResult(record, packed)]
    dataset = Dataset("ucf101", "videos", CLASSES, (1,), tuple(video.video for video in packed), (), ())
    columns = index_columns(results, (1,))
    settings = PackSettings(height=HEIGHT, width=WIDTH)
    shard_manifest(dataset, settings, results, columns, write_columns(out, columns)).write(out)
    return out


def sign(root: Path, manifest: Mapping[str, Any] | None = None, *, columns: bool = True) -> None:
    """Write a manifest whose fingerprint is right, with the right sums of the columns' files."""
    told = dict(json.loads((root / "manifest.json").read_bytes()) if manifest is None else manifest)
    if columns:
        files = sorted((root / "index").iterdir())
        told["columns"] = {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    rest = {name: value for name, value in told.items() if name != "fingerprint"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    told["fingerprint"] = hashlib.sha256(text.encode()).hexdigest()
    (root / "manifest.json").write_text(json.dumps(told))


def copy_set(source: Path, target: Path) -> Path:
    """A set whose shards are the same file, and whose other files may be changed."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=lambda a, b: shutil.copyfile(a, b))
    return target


def make_run(folder: Path, name: str = "run", settings: Mapping[str, Any] | None = None) -> Path:
    """A run folder of three epochs, as a run writes it."""
    run = folder / name
    run.mkdir(parents=True, exist_ok=True)
    told = {"backbone": {"name": "c3d", "width": 0.125}, "teacher": None, "seed": 1, "epochs": 3, "data": "shards"}
    told |= {"terms": {"pretext": {"title": "Pretext", "unit": "nats"}}, **(settings or {})}
    (run / "settings.json").write_text(json.dumps(told))
    lines, answers = [], []
    for epoch in range(4):
        answers.append({"epoch": epoch, "step": 2 * epoch, "val/linear_top1_pct": ["01.1"]})
        line: dict[str, Any] = {"kind": "epoch", "epoch": epoch, "step": 2 * epoch, "train/loss": 5.0 - epoch}
        line |= {"val/linear_top1_pct": 20.0 + 9 * epoch, "val/linear_top1_pct_se": 1.5}
        line |= {"val/pretext_top1_pct": 30.0 + 9 * epoch, "val/retrieval_r1_pct": 10.0 + epoch}
        steps = [{"kind": "step", "epoch": epoch, "step": 2 * epoch + n, "loss": 4.0, "pretext": 1.0} for n in (1, 2)]
        lines += [line, *steps]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in answers))
    (run / "env.json").write_text(json.dumps({"cpu": "one", "cores": 2, "gpu": None, "git_commit": "0123456789abcdef"}))
    found = {"linear_top1_pct": 44.0, "linear_top1_pct_se": 2.0, "protocol": "linear", "clips": 10}
    (run / "eval-linear.json").write_text(json.dumps(found))
    found = {"finetune_top1_pct": 64.0, "finetune_epochs": 150, "protocol": "finetune"}
    (run / "eval-finetune.json").write_text(json.dumps(found))
    return run


def make_study(folder: Path) -> Path:
    """A study of a teacher, a student and a control."""
    common = {"backbone": "c3d", "group": 0, "fraction": 1.0, "terms": "pretext", "width": 1.0, "other_teachers": []}
    runs = [
        {**common, "name": "baseline", "kind": "baseline", "teacher": None, "seed": 0},
        {**common, "name": "student", "kind": "student", "teacher": "baseline", "seed": 1},
        {**common, "name": "control", "kind": "control", "teacher": None, "seed": 1},
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps({"version": 1, "epochs": 3, "preset": "demo", "runs": runs}))
    for run in runs:
        make_run(folder, str(run["name"]))
        accuracies = {how: {"linear_top1_pct": 40.0, "retrieval_r1_pct": 30.0} for how in ("float", "int8")}
        (folder / str(run["name"]) / "onnx.json").write_text(json.dumps(accuracies))
    networks = [{"network": "C3D", "precision": how, "bytes": 10, "ms": [1.0, 2.0, 3.0]} for how in ("float", "int8")]
    told = {"rounds": 3, "clip": [3, 8, 32, 32], "environment": {"cpu": "one"}, "networks": networks}
    (folder / "latency.json").write_text(json.dumps(told))
    return folder
