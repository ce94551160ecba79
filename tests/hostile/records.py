"""What an unfinished set knows about itself, made hostile: its plan, and the record of a shard."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from cases import Target, mutated, mutations
from hypothesis import strategies as st
from promise import commanded, held

__all__ = ["TARGETS"]


@st.composite
def _records(draw: st.DrawFn) -> dict[str, Any]:
    return {"changes": draw(st.one_of(mutations, st.just([]))), "plan": draw(st.one_of(mutations, st.just([])))}


def _check_records(case: dict[str, Any], folder: Path) -> None:
    """What an unfinished set knows about itself, hostile: `finish` reads it."""
    from pclkd.sharding.cli import main
    from pclkd.sharding.packing.journal import Plan

    out = folder / "out"
    (out / ".pack").mkdir(parents=True)
    video = {
        "path": "",
        "relative": "Jump/a.avi",
        "key": "a",
        "label": 0,
        "group": -1,
        "parts": {"1": "train"},
        "span": None,
    }
    about = {"kind": "ucf101", "source": "v", "classes": ["Jump"], "numbers": [1], "missing": [], "unlisted": []}
    about |= {"parts_told": True, "other_files": {}}
    settings = {"height": 32, "width": 48, "short_side": 0, "fps": 0.0, "max_frames": 0, "quality": 90}
    settings |= {"chroma": "4:2:0", "salvage": 0, "videos_per_shard": 1}
    shards = [{"name": "set-000000.tar", "key": "k", "videos": [video]}]
    plan = {"format_version": 2, "parts": 1, "settings": settings, "dataset": about, "shards": shards}
    (out / ".pack" / "plan.json").write_text(json.dumps(mutated(plan, case["plan"])))
    key = "k"
    found: list[Any] = []
    held(lambda: found.append(Plan.read(str(out))), out)
    if found and found[0] and found[0].tasks:
        key = found[0].tasks[0].key
        (out / found[0].tasks[0].name).write_bytes(bytes(10_240))
    lengths, sums = (base64.b64encode(bytes(4)).decode() for _ in range(2))
    packed = {
        "video": "a",
        "offset": 512,
        "lengths": lengths,
        "frame_crc32": sums,
        "size": 2048,
        "height": 32,
        "width": 48,
    }
    packed |= {
        "about_size": 9,
        "source_sha256": "0" * 64,
        "crc32": 0,
        "fps": 25.0,
        "times": None,
        "remark": "",
        "salvaged": False,
    }
    record = {"name": "ucf101-000000.tar", "bytes": 10_240, "samples": 1, "sha256": "0" * 64}
    left_out = [{"video": "b", "reason": "no"}]
    body = {"identities": ["1"], "stored": "", "record": record, "packed": [packed], "quarantined": left_out}
    body = {"key": key, **mutated(body, case["changes"])}
    told = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    for name in ("ucf101-000000.json", "set-000000.json", "shard-000000.json"):
        (out / ".pack" / name).write_text(json.dumps({"sha256": told, **body}))
    commanded(main, ["finish", str(out)], out)


TARGETS = (Target("records", _records(), _check_records, 30),)
