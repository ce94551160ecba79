import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pclkd.training.cli import main
from pclkd.training.models import registry as backbones

NETWORK = """
from torch import nn
from pclkd.training.models.registry import register_backbone

register_backbone("tiny", lambda: nn.Conv3d(3, 16, (1, 3, 3), padding=(0, 1, 1), bias=False), feature_dim=16)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(backbones, "_BUILDERS", dict(backbones._BUILDERS))
    path = tmp_path / "networks_of_mine.py"
    path.write_text(NETWORK)
    yield path
    sys.modules.pop("networks_of_mine", None)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments)
    return done.exit_code, done.output


def test_the_table_lists_registered_networks_with_figures_counted_by_hand(own_module: Path) -> None:
    code, output = run("--import", str(own_module), "models", "--no-speed", "--frames", "8", "--crop", "32", "--json")
    assert code == 0, output
    rows = {row["name"]: row for row in json.loads(output)}
    # 16 filters of 3 x 1 x 3 x 3 weights, each applied at 8 x 32 x 32 places
    assert rows["tiny"] == {
        "name": "tiny",
        "parameters": 16 * 27,
        "frames": 8,
        "gmacs": pytest.approx(16 * 27 * 8 * 1024 / 1e9),
        "feature_dim": 16,
        "clips_per_s": None,
    }
    assert set(backbones.BACKBONE_NAMES) < set(rows)


def test_speed_is_measured_and_narrow_tables_leave_torchvision_out() -> None:
    code, output = run("models", "--width", "0.125", "--frames", "8", "--crop", "32", "--json")
    assert code == 0, output
    rows = json.loads(output)
    assert [row["name"] for row in rows] == ["c3d", "r3d", "r2plus1d", "r3d18", "r2plus1d18"]
    assert all(row["clips_per_s"] > 0 for row in rows)
    code, text = run("models", "--no-speed", "--crop", "16")
    assert (code, "too small" in text) == (2, True)
    code, text = run("models", "--no-speed")
    assert "14,361,792" in text
    assert "clips/s" not in text and "frames" not in text


def test_frames_are_told_where_a_network_takes_more_than_were_asked_for() -> None:
    code, text = run("models", "--no-speed", "--frames", "1", "--crop", "32")
    assert code == 0, text
    head, *rows = (line.split() for line in text.partition("\n\n")[0].splitlines())
    frames = {row[0]: row[head.index("frames")] for row in rows}
    assert {name for name, count in frames.items() if count == "8"} == {"c3d", "s3d"}
    assert set(frames.values()) == {"1", "8"}


@pytest.mark.parametrize(("batch", "crop"), [(10**9, 16), (2**16, 10**4)])
def test_a_batch_that_cannot_be_is_told_in_a_line(batch: int, crop: int) -> None:
    code, text = run("models", "--batch-size", str(batch), "--crop", str(crop), "--width", "0.125")
    assert code == 2 and text.startswith("error: ") and "--batch-size" in text and text.count("\n") == 1, text


@pytest.mark.parametrize(
    ("module", "told"),
    [("nowhere.py", "no such file"), ("no_such_module_at_all", "ModuleNotFoundError"), ("broken.py", "ZeroDivision")],
)
def test_a_module_that_cannot_be_imported_is_told_in_a_line(
    module: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0")
    code, output = run("--import", module, "models", "--no-speed")
    assert code == 2
    assert told in output
    assert len(output.strip().splitlines()) == 1
