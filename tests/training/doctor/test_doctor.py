"""A sound machine is found fit, every check fails where its cause is there, and nothing is left behind."""

import dataclasses
import errno
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils._python_dispatch import TorchDispatchMode

from pclkd.pipeline.pixels.parity import Operator, decoded
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_bytes
from pclkd.training.cli import main
from pclkd.training.compute import convolutions
from pclkd.training.doctor import computing, disk, limits, pixels
from pclkd.training.doctor.checks import CHECKS
from pclkd.training.doctor.examination import Finding, Machine, Outcome, examined, set_up
from pclkd.training.runs.checkpoint import CHECKPOINT_NAME, load_checkpoint, save_checkpoint

Check = Callable[[Machine], Outcome]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with set_up(tmp_path_factory.mktemp("doctor")) as found:
        yield found


def found(machine: Machine, check: Check) -> Finding:
    return next(examined(machine, {"checked": check}))


def failure(machine: Machine, check: Check) -> str:
    finding = found(machine, check)
    assert finding.verdict == "FAIL" and finding.remedy, finding
    return finding.figure


def warning(machine: Machine, check: Check) -> str:
    finding = found(machine, check)
    assert finding.verdict == "warn" and finding.remedy, finding
    return finding.figure


def test_a_sound_machine_is_fit_and_left_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "not" / "there"
    done = CliRunner().invoke(main, ["doctor", "--out", str(out), "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and told["failed"] == [], done.output
    assert [check["name"] for check in told["checks"]] == list(CHECKS)
    assert all(check["figure"] and bool(check["remedy"]) == (check["verdict"] == "warn") for check in told["checks"])
    assert sum(check["seconds"] for check in told["checks"]) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_check_a_line_and_exit_code_1_where_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (50, 4096))
    done = CliRunner().invoke(
        main, ["doctor", "--out", str(tmp_path), "--only", "open files", "--only", "rename"], catch_exceptions=False
    )
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("FAIL  open files  50 may be open - ulimit -n 1024")
    assert lines[1].startswith("ok    rename")
    assert lines[2].startswith("not fit: open files (2 checks")


def test_a_check_that_breaks_down_has_failed(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: Machine) -> Outcome:
        raise ValueError("no such thing\nand more")

    assert failure(machine, broken) == "ValueError: no such thing"
    assert "Traceback" in capsys.readouterr().err

    def refusing(_: Machine) -> Outcome:
        raise InputError("the disk is wrong", remedy="take another")

    assert found(machine, refusing) == Finding("FAIL", "the disk is wrong", "take another", "checked", 0.0)


def test_what_was_made_goes_when_a_check_is_interrupted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), set_up(tmp_path / "a" / "b") as there:
        (there.scratch / "something").write_text("")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_wrong_pixels_are_found(machine: Machine) -> None:
    def brighter(*asked: Any) -> np.ndarray:
        return decoded(*asked) + 1

    assert "DALI 1 levels" in failure(machine, lambda m: pixels.check_decoding(m, brighter))
    assert failure(machine, lambda m: pixels.check_augmentation(m, brighter)).startswith("wrong: crop, ")


@pytest.mark.parametrize("name", ["hue", "contrast", "blur"])
def test_one_wrong_operator_is_named(machine: Machine, name: str) -> None:
    def turned(clips: Any, size: Any, crop: Any, way: Any, operator: Operator) -> np.ndarray:
        if set(operator.changes) == {"sigma" if name == "blur" else name}:
            wrong = {key: [1.05 * value for value in values] for key, values in operator.changes.items()}
            operator = dataclasses.replace(operator, changes=wrong)
        return decoded(clips, size, crop, way, operator)

    assert failure(machine, lambda m: pixels.check_augmentation(m, turned)).startswith(f"wrong: {name};")


class Wrong(TorchDispatchMode):
    """A library whose strided convolutions are a little off."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if function._schema.name == "aten::convolution" and args[0].dtype == torch.float32 and 2 in args[3]:
            result.mul_(1.02)
        return result


def test_wrong_convolutions_are_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolutions, "_known", {})  # of the tests before
    with Wrong():
        assert "of conv3d in fp32 is off by 2.0 %" in failure(machine, computing.check_convolutions)


def test_processes_that_do_not_meet_are_told_of(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    finding = found(machine, computing.check_gloo)
    assert finding.verdict == "FAIL" and "GLOO_SOCKET_IFNAME" in finding.remedy
    assert finding.figure.startswith("2 processes could not exchange anything: ")


@pytest.mark.parametrize("size", range(1, 17))
def test_right_sums_are_exact_in_every_type(size: int) -> None:
    """bfloat16 has all whole numbers up to 256: whatever order they are added in, nothing is rounded."""
    base = torch.arange(computing.distinct(size))
    sent = [(base + rank).to(torch.bfloat16) for rank in range(size)]
    true = torch.stack([own.double() for own in sent]).sum(0)
    one_by_one, in_pairs = sent[0], [*sent]
    for own in sent[1:]:
        one_by_one = one_by_one + own
    while len(in_pairs) > 1:
        in_pairs = [sum(in_pairs[at : at + 2]) for at in range(0, len(in_pairs), 2)]
    assert torch.equal(one_by_one.double(), true) and torch.equal(in_pairs[0].double(), true)
    assert size > 8 or len(base) > 20  # rows are told apart


def test_wrong_sums_are_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(_work: object, turns: list[computing.Turn], *_: object) -> list[tuple[float, float]]:
        asked.extend(turns)
        return [(0.0, 0.001), (1.0, 0.002), (0.0, 0.001)]

    figure = "sums off by 1, 1 MiB in 2.0 ms"
    assert failure(machine, lambda m: computing.check_gloo(m, run)) == f"2 processes: {figure}"
    assert found(machine, lambda m: computing.check_nccl(m, run)).figure == "not needed with 0 GPUs"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert failure(machine, lambda m: computing.check_nccl(m, run)) == f"3 processes: {figure}"
    assert [(turn.rank, turn.size, turn.gpu) for turn in asked] == [
        *((rank, 2, False) for rank in range(2)),
        *((rank, 3, True) for rank in range(3)),
    ]


def test_a_run_that_goes_on_otherwise_is_found(machine: Machine) -> None:
    def disturb(run: Path) -> None:
        checkpoint = load_checkpoint(run)
        name = next(name for name, value in checkpoint.model.items() if value.dtype == torch.float32)
        checkpoint.model[name] += 1e-3
        save_checkpoint(run / CHECKPOINT_NAME, checkpoint)

    figure = failure(machine, lambda m: computing.check_resume(m, disturb))
    assert figure.startswith("4 steps, stopped after 2: losses differ by ") and figure.endswith("weights are not equal")


def test_locks_that_let_two_in_are_found(machine: Machine) -> None:
    def nothing(_: Path) -> Any:
        return nullcontext()

    assert failure(machine, lambda m: disk.check_locks(m, study=nothing)) == "two at once got the lock of: study"
    assert failure(machine, lambda m: disk.check_locks(m, packing=nothing)) == "two at once got the lock of: packing"


def test_files_that_are_not_replaced_whole_are_found(machine: Machine) -> None:
    assert "half replaced" in failure(machine, lambda m: disk.check_rename(m, Path.write_bytes))

    def forgetful(path: Path, data: bytes) -> None:
        write_bytes(path, data)
        path.with_name(path.name + ".part").write_bytes(b"")

    assert "half replaced" in failure(machine, lambda m: disk.check_rename(m, forgetful))


def test_slow_and_refused_syncs_are_found(machine: Machine) -> None:
    def slow(path: Path, data: bytes) -> None:
        time.sleep(0.11)
        write_bytes(path, data)

    def refused(path: Path, _: bytes) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))

    assert "ms a synced file" in warning(machine, lambda m: disk.check_sync(m, slow))
    assert "Invalid argument" in failure(machine, lambda m: disk.check_sync(m, refused))


def test_little_room_and_slow_disks_are_found(machine: Machine) -> None:
    assert failure(machine, lambda m: disk.check_space(m, 2**29)) == "0.5 GiB free"
    assert warning(machine, lambda m: disk.check_space(m, 2**31)) == "2.0 GiB free"
    assert found(machine, lambda m: disk.check_space(m, 2**40)).verdict == "ok"

    def slow(path: Path, data: bytes) -> None:
        time.sleep(len(data) / 2**20)
        write_bytes(path, data)

    assert "1 MiB/s" in failure(machine, lambda m: disk.check_write_speed(m, slow, size=2**20))


def test_few_open_files_are_found(machine: Machine) -> None:
    assert warning(machine, lambda m: limits.check_open_files(m, 512)) == "512 may be open"


def test_little_shared_memory_matters_to_several_gpus(machine: Machine, tmp_path: Path) -> None:
    absent = tmp_path / "shm"
    assert "0 MiB free" in failure(machine, lambda m: limits.check_shared_memory(m, absent, gpus=2))
    assert "0 MiB free" in warning(machine, lambda m: limits.check_shared_memory(m, absent, gpus=1))


def test_clocks_that_jump_or_are_wrong_are_found(machine: Machine) -> None:
    monotonic, wall = machine.began
    assert found(machine, lambda m: limits.check_clock(m, (monotonic + 9, wall + 9))).verdict == "ok"
    assert "-3.000 s" in warning(machine, lambda m: limits.check_clock(m, (monotonic + 9, wall + 6)))
    assert "1970-01-01" in failure(machine, lambda m: limits.check_clock(m, (monotonic + 9, 3600.0)))


def test_old_and_missing_libraries_are_found(machine: Machine) -> None:
    def old(name: str) -> str:
        if name in {"torch", "nvidia-dali-cuda120", "onnx"}:
            return "1.5"
        raise limits.metadata.PackageNotFoundError

    def figure(judge: Callable[[Machine, Check], str], *wanted: str) -> str:
        return judge(machine, lambda m: limits.check_versions(m, old, wanted))

    assert figure(failure, "torch>=2.11") == "torch 1.5, not >=2.11"
    assert figure(failure, "av<20,>=18") == "missing av<20,>=18"
    assert figure(warning, 'onnx>=1.16; extra == "onnx"') == "onnx 1.5, not >=1.16"
    fits = ("torch>=1", "nvidia-dali-cuda130>=2.0", 'ray>=2; extra == "ray"')  # DALI's other build is there
    assert found(machine, lambda m: limits.check_versions(m, old, fits)).verdict == "ok"


def test_gpus_that_torch_does_not_see_are_found(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(m: Machine) -> Outcome:
        return limits.check_gpus(m, seen=0, listed=lambda: 2)

    assert found(machine, hidden).verdict == "ok"  # as CUDA_VISIBLE_DEVICES says here
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert failure(machine, hidden) == "torch sees 0 of 2"


def test_a_busy_machine_is_found(machine: Machine) -> None:
    assert "keep 99.0 of" in warning(machine, lambda m: limits.check_load(m, lambda: 99.0, threads=2))
    assert found(machine, lambda m: limits.check_load(m, lambda: 0.0, threads=1)).verdict == "ok"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "everything"], ["--only everything", "all-reduce"]),
        (["--out", "README/x"], ["README/x cannot be a folder: ", "README is a file - give another folder"]),
        (["--precision", "fp8"], ["'fp8' is not one of 'auto'"]),
    ],
)
def test_wrong_options_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("README").write_text("")
    done = CliRunner().invoke(main, ["doctor", *arguments])
    assert done.exit_code == 2
    assert all(part in done.output for part in told), done.output
