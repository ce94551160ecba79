"""Split lists and tables of every layout, made hostile."""

import json
import os
import re
from pathlib import Path
from typing import Any

from cases import NAMES, NUMBERS, VALUES, Target, mutated, mutations
from hypothesis import strategies as st
from promise import held

__all__ = ["TARGETS"]

_FILES: dict[str, dict[str, str]] = {
    "ucf101": {
        "classInd.txt": "1 Jump\n2 Run\n",
        "trainlist01.txt": "Jump/v_Jump_g01_c01.avi 1\nRun/v_Run_g01_c01.avi 2\n",
        "testlist01.txt": "Jump/v_Jump_g02_c01.avi\nRun/v_Run_g02_c01.avi\n",
    },
    "hmdb51": {
        "Jump_test_split1.txt": "v_Jump_g01_c01.avi 1\nv_Jump_g02_c01.avi 2\n",
        "Run_test_split1.txt": "v_Run_g01_c01.avi 1\nv_Run_g02_c01.avi 2\n",
    },
    "kinetics": {
        "train.csv": "label,youtube_id,time_start,time_end,split\nJump,v_Jump_g01_c01,0,10,train\n"
        "Run,abcdefghijk,1,9,val\n"
    },
    "csv": {
        "table.csv": "path,label,group,split,start,end\nJump/v_Jump_g01_c01.avi,Jump,1,train,0,1\n"
        "Run/v_Run_g01_c01.avi,Run,2,test,,\n"
    },
}
_JSON: dict[str, tuple[str, Any]] = {
    "activitynet": (
        "activity_net.json",
        {
            "taxonomy": [{"nodeName": "Jump", "nodeId": 1, "parentId": None}],
            "database": {
                "v_Jump_g01_c01": {
                    "subset": "training",
                    "duration": 9.0,
                    "annotations": [{"segment": [0, 4], "label": "Jump"}],
                }
            },
        },
    ),
    "diving48": (
        "Diving48_V2_train.json",
        [{"vid_name": "v_Jump_g01_c01", "label": 0, "start_frame": 0, "end_frame": 9}],
    ),
    "twentybn": ("train.json", [{"id": "v_Jump_g01_c01", "template": "Jump [a]", "label": "Jump a"}]),
}
_VIDEOS = ("Jump/v_Jump_g01_c01.avi", "Jump/v_Jump_g02_c01.avi", "Run/v_Run_g01_c01.avi", "Run/v_Run_g02_c01.avi")


@st.composite
def _texts(draw: st.DrawFn) -> dict[str, Any]:
    """A layout whose lists have some of their words replaced, lines doubled, or bytes thrown in."""
    kind = draw(st.sampled_from(sorted(_FILES)))
    files = {}
    for name, text in _FILES[kind].items():
        data = text.encode()
        for _ in range(draw(st.integers(0, 3))):
            words = [(found.start(), found.end()) for found in re.finditer(rb"[^\s,;]+", data)]
            if words and draw(st.booleans()):
                start, stop = draw(st.sampled_from(words))
                word = draw(
                    st.one_of(NAMES, NUMBERS.map(str), st.sampled_from(["9" * 5000, "٣", "²", "1_0", "+1", "nan"]))
                )
                data = data[:start] + word.encode("utf-8", "surrogatepass") + data[stop:]
                continue
            place = draw(st.integers(0, len(data)))
            stop = place + draw(st.integers(0, 6))
            word = draw(
                st.one_of(NAMES, NUMBERS.map(str), st.sampled_from([",", '"', " ", "\r", "\t", "\ufeff", "٣", "²"]))
            )
            data = data[:place] + word.encode("utf-8", "surrogatepass") + data[stop:]
        if draw(st.booleans()):
            data = draw(
                st.sampled_from([data + data, data[: len(data) // 2], b"\xff\xfe" + data, data.replace(b"\n", b"\r")])
            )
        files[name] = data
    if draw(st.integers(0, 5)) == 0:
        files[
            draw(
                st.sampled_from(
                    ["trainlist99999999999999999.txt", "trainlist٣.txt", "testlist00.txt", "x_test_split7.txt"]
                )
            )
        ] = b"a"
    return {"kind": draw(st.sampled_from([kind, "auto"])), "files": files}


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(_JSON)))
    name, document = _JSON[kind]
    whole = draw(st.integers(0, 9))
    if whole == 0:
        text = draw(st.sampled_from(["[" * 100_000, '{"a":' * 50_000, "", "1" * 5000, "nul", '"\\ud800"', "[1,]"]))
    else:
        text = json.dumps(mutated(document, draw(mutations)) if whole > 1 else draw(VALUES))
    return {"kind": draw(st.sampled_from([kind, "auto"])), "files": {name: text.encode()}}


def _check(case: dict[str, Any], folder: Path) -> None:
    from pclkd.sharding.datasets.reading import read_dataset
    from pclkd.sharding.packing.pack import plan_packing

    videos, lists = folder / "videos", folder / "lists"
    for name in _VIDEOS:
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).write_bytes(b"no video")
    lists.mkdir()
    for name, data in case["files"].items():
        (lists / name).write_bytes(data)
    table = lists / next(iter(case["files"])) if case["kind"] == "csv" else lists

    def read() -> None:
        found = read_dataset(videos, table, case["kind"])
        for video in found.videos:
            assert os.path.basename(video.key) == video.key and video.key.isascii() and "." not in video.key  # noqa: PTH119
            assert video.relative.isprintable()
        assert all(name.isprintable() for name in found.classes)
        plan_packing(videos, table, dataset=case["kind"], allow_empty_split=True)

    held(read)


TARGETS = (Target("lists", _texts(), _check, 90), Target("list-documents", _documents(), _check, 50))
