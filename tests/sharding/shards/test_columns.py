"""Columns behind a URL: the copies that this machine keeps."""

from pathlib import Path

import numpy as np
import pytest

from pclkd.sharding import ShardIndex
from pclkd.sharding.common import storage


@pytest.mark.parametrize("how", ["flipped", "emptied"])
def test_a_kept_column_that_goes_bad_is_fetched_again(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A flipped bit makes another valid label; a power cut leaves a name without its bytes."""
    monkeypatch.setenv("PCLKD_CACHE", str(tmp_path / "cache"))
    there = f"memory://{tmp_path.name}"
    for path in synthetic_shards.rglob("*"):
        if path.is_file():
            storage.put(path, f"{there}/{path.relative_to(synthetic_shards)}")
    expected = ShardIndex.open(there)
    copy = tmp_path / "cache" / "columns" / f"{expected.manifest.columns['sample_label']}.npy"
    whole = copy.read_bytes()
    labels = expected.sample_label.tolist()
    copy.unlink()  # the index above has it mapped
    copy.write_bytes(whole[:-4] + (labels[-1] ^ 1).to_bytes(4, "little") if how == "flipped" else b"")
    assert np.array_equal(ShardIndex.open(there).sample_label, labels)
    assert copy.read_bytes() == whole
