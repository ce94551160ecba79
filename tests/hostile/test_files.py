"""Single hostile files that no fuzzing would come upon: pipes, devices, links, bombs, code, and names in pages."""

import json
import os
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import check_page
from material import copy_set, declaring, jpeg, make_run, make_shards, sign
from promise import BrokenPromiseError, commanded, held
from sets import sound_set
from weights import Runs, hostile_weights, sound_checkpoint

from pclkd.sharding.cli import main as shard_main
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.list_files import numbered_lines
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import Manifest
from pclkd.sharding.shards.samples import read_frames
from pclkd.training.report.report import write_report
from pclkd.training.runs.answers import read_answers
from pclkd.training.runs.checkpoint import load_checkpoint, load_model
from pclkd.training.runs.run_folder import read_run

EVIL = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "</script><script>document.title='owned'//",
    "a|b `c` [d](javascript:owned)",
    "$\\frac{1}{$ 🏃 مرحبا",
    "\u202egnp.exe",
    "-rf",
)


def test_the_watch_sees_what_it_must(tmp_path: Path) -> None:
    """A test that cannot fail is a defect: each sort of broken promise is noticed."""
    outside = tmp_path / "outside"
    for broken in (
        lambda: outside.write_text("x"),
        lambda: outside.mkdir(),
        lambda: subprocess.run(["true"], check=True),
        lambda: os.system("true"),
        lambda: [index for index in range(10**12)],  # noqa: C416
    ):
        with pytest.raises((BrokenPromiseError, MemoryError)):
            held(broken, tmp_path / "inside", seconds=0.5)
    with pytest.raises((MemoryError, ValueError)):
        held(lambda: bytearray(2**31), tmp_path)
    assert not outside.exists()

    def refused() -> None:
        raise InputError("a\nb", remedy="c")

    assert str(held(refused)) == "a\\nb - c"


def test_pipes_and_devices_are_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for odd in (tmp_path / "pipe", tmp_path / "zero"):
        root = copy_set(sound_set(), tmp_path / "set")
        for name in ("manifest.json", "index/sample_key.npy", "set-000000.tar"):
            kept = (root / name).read_bytes()
            (root / name).unlink()
            os.link(odd, root / name, follow_symlinks=False)
            assert held(partial(ShardIndex.open, root)) is not None
            code, _ = commanded(shard_main, ["verify", str(root)], tmp_path / "out")
            assert code == 2
            (root / name).unlink()
            (root / name).write_bytes(kept)
        assert held(lambda odd=odd: list(numbered_lines(str(odd), "no"))) is not None
        run = make_run(tmp_path, f"run-{odd.name}")
        for name in ("settings.json", "metrics.jsonl", "env.json", "eval-linear.json"):
            kept = (run / name).read_bytes()
            (run / name).unlink()
            os.link(odd, run / name, follow_symlinks=False)
            assert held(partial(read_run, run)) is not None
            (run / name).unlink()
            (run / name).write_bytes(kept)
        (run / "answers.jsonl").unlink()
        os.link(odd, run / "answers.jsonl", follow_symlinks=False)
        assert held(partial(read_answers, run)) is not None
        os.link(odd, run / "last.pt", follow_symlinks=False)
        assert held(partial(load_checkpoint, run)) is not None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda told: told["shards"][0].update(name="../../../etc/passwd"), "no name of a file"),
        (lambda told: told["shards"][0].update(name="/etc/passwd"), "no name of a file"),
        (lambda told: told["columns"].update({"../../x": "0" * 64}), "no name of a file"),
        (lambda told: told["columns"].update(sample_key="../../../secret"), "SHA-256"),
        (lambda told: told["classes"].__setitem__(0, "\x1b[2J"), "cannot be printed"),
        (lambda told: told["classes"].__setitem__(0, "Run"), "named twice"),
        (lambda told: told["shards"][0].update(bytes=10**30), "bytes"),
        (lambda told: told["settings"].update(height="128"), "settings.height"),
    ],
)
def test_a_signed_manifest_is_not_believed(tmp_path: Path, change, told: str) -> None:
    root = copy_set(sound_set(), tmp_path / "set")
    manifest = json.loads((root / "manifest.json").read_bytes())
    change(manifest)
    sign(root, manifest, columns=False)
    refusal = held(lambda: Manifest.read(root))
    assert refusal is not None and told in str(refusal) and str(root) in str(refusal)


def test_a_key_never_names_a_file_elsewhere(tmp_path: Path) -> None:
    root = copy_set(sound_set(), tmp_path / "set")
    file = root / "index" / "sample_key.npy"
    keys = np.load(file).astype("S20")
    keys[0] = b"../../escaped"
    np.save(file, keys)
    sign(root)
    (tmp_path / "out").mkdir()
    code, said = commanded(
        shard_main, ["preview", str(root), "--video", "../../escaped", "--out", str(tmp_path / "out")], tmp_path / "out"
    )
    assert code == 2 and "sample_key" in said


@pytest.mark.parametrize("size", [(65_500, 65_500), (4_000, 4_000)])
def test_frames_that_declare_any_size_are_not_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    data = declaring(jpeg(), *size)
    root = make_shards(tmp_path / "set", lambda video, frame, sound: data if video == 0 else sound)
    refusal = held(lambda: read_frames(ShardIndex.open(root), 0, [0]), more_bytes=64 << 20)
    assert refusal is not None and "frame 0 of video v0" in str(refusal)
    for name in ("height", "width"):
        column = np.load(root / "index" / f"sample_{name}.npy")
        column[0] = size[0]
        np.save(root / "index" / f"sample_{name}.npy", column)
    sign(root)
    opened = held(lambda: ShardIndex.open(root), more_bytes=64 << 20)
    assert (opened is None) == (size[0] * size[1] <= 8192 * 4352)


LOADS = """
import json, sys
from pclkd.pipeline.opening import clip_loader
how = {"batch_size": 2, "crop": 16, "threads": 1, "part": "all", "shuffle": False}
tuples = {"clip_frames": 4, "clip_stride": 4, "remote_distance": 4}
with clip_loader(sys.argv[1], tuples=tuples, quarantine_limit_pct=100.0, **how) as loader:
    found = [batch.sample_index[: batch.valid].tolist() for batch in loader.epoch(0)]
    # Not ru_maxrss: that begins with the size of the process that this one was forked from.
    most = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps([found, int(most)]))
"""


def test_hostile_frames_with_right_checksums_cost_their_video_alone(tmp_path: Path) -> None:
    """In a process of its own: what reaches a decoder that is written in C."""
    kinds = [jpeg(progressive=True), jpeg(mode="CMYK", subsampling=-1), jpeg()[:-60]]
    root = make_shards(tmp_path / "set", lambda video, frame, sound: kinds[video] if video < 3 else sound)
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(root)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    delivered, kib = json.loads(done.stdout.splitlines()[-1])
    assert 3 in [sample for batch in delivered for sample in batch]
    assert {0, 1}.isdisjoint(sample for batch in delivered for sample in batch)  # neither baseline nor in colour
    assert kib < 2 << 20


def test_no_checkpoint_runs_code_or_takes_memory_that_it_does_not_have(tmp_path: Path) -> None:
    for number, how in enumerate(("code", "global", "bytearray", "storage", "long")):
        file = tmp_path / f"{number}.pt"
        file.write_bytes(hostile_weights({"what": "pickle", "how": how}, tmp_path))
        assert held(lambda file=file: load_checkpoint(file), more_bytes=256 << 20) is not None
    assert not (tmp_path / "ran").exists()
    Runs(tmp_path / "ran").__reduce__()[0](*Runs(tmp_path / "ran").__reduce__()[1])
    assert (tmp_path / "ran").exists()  # had it run, it would be seen


def test_a_checkpoint_chooses_no_place_and_no_size(tmp_path: Path) -> None:
    content = torch.load(tmp_path_file(tmp_path, sound_checkpoint()), weights_only=True)
    settings = json.loads(content["settings"])
    settings["loader"]["cache_dir"] = "/tmp/escaped"
    settings["pcl"]["embedding_dim"] = 2**16
    settings["backbone"]["width"] = 4.0
    torch.save({**content, "settings": json.dumps(settings)}, tmp_path / "last.pt")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.settings.loader.cache_dir is None
    refusal = held(lambda: load_model(checkpoint, tmp_path), more_bytes=256 << 20)
    assert refusal is not None and "do not fit" in str(refusal)


def tmp_path_file(folder: Path, data: bytes) -> Path:
    (folder / "whole.pt").write_bytes(data)
    return folder / "whole.pt"


def test_names_of_runs_stay_names_in_pages_and_tables(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in EVIL:
        make_run(runs, name.replace("/", "∕"), {"teacher": f"x/{name}", "note": name})
    (runs / "escaped").symlink_to(tmp_path)
    assert held(lambda: write_report(runs), runs / "report", seconds=60) is None
    check_page((runs / "report" / "index.html").read_text(), scripts=0)
    assert "<script" not in (runs / "report" / "table.md").read_text()


def test_a_pipe_of_a_size_in_a_tar_is_no_size(tmp_path: Path) -> None:
    """A header that tells 8 EiB, of a member that is not there."""
    root = copy_set(sound_set(), tmp_path / "set")
    tar = root / "set-000000.tar"
    data = bytearray(tar.read_bytes())
    data[124:136] = b"\x80" + struct.pack(">IQ", 0, 2**63)[1:]
    tar.write_bytes(data)
    code, said = commanded(shard_main, ["verify", str(root)], tmp_path / "out", more_bytes=128 << 20)
    assert code == 1 and "damaged" in said
