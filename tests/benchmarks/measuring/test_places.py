from pathlib import Path

import pytest

from pclkd.benchmarks.measuring.places import absolute, local
from pclkd.sharding.common.errors import InputError


def test_a_url_stays_as_it_is_and_a_path_holds_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("s3://bucket/shards") == "s3://bucket/shards"
    assert (
        absolute("shards") == absolute(Path("shards")) == absolute(f"file://{tmp_path}/shards") == f"{tmp_path}/shards"
    )
    assert local("shards", "peers") == "shards"
    with pytest.raises(InputError, match="peers reads files, and s3://bucket/shards is none"):
        local("s3://bucket/shards", "peers")
