"""Checkpoints, weights from outside and exported folders made hostile: what they hold, and how they are written."""

import functools
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from cases import VALUES, Target, mutated, mutations
from hypothesis import strategies as st
from promise import held

__all__ = ["TARGETS", "Runs", "sound_checkpoint"]


class Runs:
    """What a pickle of it would run: a file appears."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        """Code, to whoever unpickles it without care."""
        return exec, (f"open({str(self.place)!r}, 'w').close()",)


@functools.cache
def sound_checkpoint() -> bytes:
    """A checkpoint of a small network, as it is saved."""
    import tempfile

    from pclkd.training.runs.checkpoint import Checkpoint, build_model, save_checkpoint
    from pclkd.training.settings import override, preset

    settings = override(preset("demo"), ["backbone.name=c3d", "backbone.width=0.01"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(settings).state_dict()
    where: dict[str, Any] = {"version": 1, "epoch": 1, "consumed": 0, "seed": 0, "shuffled": True, "samples": 2}
    checkpoint = Checkpoint(
        settings=settings,
        fingerprint="0" * 64,
        rows=2,
        processes=1,
        loader={**where, "fingerprint": "0" * 64},
        epoch=1,
        epoch_step=0,
        step=4,
        epoch_sums={"loss": [1.0, 1.0]},
        best=None,
        model=model,
        memory={"student": {}},
        optimizer={"state": {}, "param_groups": []},
        schedule={},
        scaler={},
    )
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "last.pt", checkpoint)
        return (Path(folder) / "last.pt").read_bytes()


_FIELDS = (
    "settings",
    "fingerprint",
    "rows",
    "processes",
    "loader",
    "epoch",
    "epoch_step",
    "step",
    "epoch_sums",
    "best",
    "model",
    "memory",
    "optimizer",
    "schedule",
    "scaler",
    "average",
    "decode",
    "format",
)
_TENSORS = (
    "nan",
    "inf",
    "shape",
    "scalar",
    "expanded",
    "int",
    "complex",
    "sparse",
    "meta",
    "missing",
    "extra",
    "huge",
    "text",
)


@st.composite
def _contents(draw: st.DrawFn) -> dict[str, Any]:
    what = draw(st.sampled_from(["field", "settings", "tensor", "pickle", "zip", "bytes"]))
    case: dict[str, Any] = {"what": what}
    if what == "field":
        case |= {"name": draw(st.sampled_from(_FIELDS)), "value": draw(VALUES), "drop": draw(st.booleans())}
    elif what == "settings":
        case["changes"] = draw(mutations)
    elif what == "tensor":
        case |= {"number": draw(st.integers(0, 60)), "how": draw(st.sampled_from(_TENSORS))}
    elif what == "pickle":
        case["how"] = draw(st.sampled_from(["code", "bytearray", "storage", "deep", "wide", "long", "lists", "global"]))
    elif what == "zip":
        case["how"] = draw(st.sampled_from(["compressed", "again", "lying", "names", "nothing"]))
    else:
        case |= {"at": draw(st.integers(0, 60_000)), "data": draw(st.binary(max_size=40)), "cut": draw(st.booleans())}
    return case


def hostile_weights(case: dict[str, Any], folder: Path) -> bytes:
    """The bytes of the file."""
    data, what = sound_checkpoint(), case["what"]
    if what == "bytes":
        at = case["at"] % len(data)
        return data[:at] if case["cut"] else data[:at] + case["data"] + data[at + len(case["data"]) :]
    if what == "pickle":
        return _hostile_pickle(case["how"], folder)
    if what == "zip":
        return _hostile_zip(case["how"], data)
    content = torch.load(io.BytesIO(data), weights_only=True)
    if what == "field":
        content[case["name"]] = case["value"]
        if case["drop"]:
            del content[case["name"]]
    elif what == "settings":
        content["settings"] = json.dumps(mutated(json.loads(content["settings"]), case["changes"]))
    else:
        _change_tensor(content["model"], case["number"], case["how"])
    return _saved(content)


def _saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _change_tensor(model: dict[str, Any], number: int, how: str) -> None:
    name = list(model)[number % len(model)]
    value = model[name].clone()
    if how in ("nan", "inf"):
        model[name] = value.float().fill_(float(how))
    elif how == "shape":
        model[name] = torch.zeros(*value.shape, 2)
    elif how == "scalar":
        model[name] = torch.zeros(())
    elif how == "expanded":
        model[name] = torch.zeros(1).expand(2**20, 2**20)
    elif how in ("int", "complex"):
        model[name] = value.to(torch.int32 if how == "int" else torch.complex64)
    elif how == "sparse":
        model[name] = torch.zeros(3, 3).to_sparse()
    elif how == "meta":
        model[name] = torch.zeros(2**30, 2**20, device="meta")
    elif how == "missing":
        del model[name]
    elif how == "extra":
        model["adapters.7.weight"] = torch.zeros(3, 3)
    elif how == "huge":
        model["adapters.0.weight"] = torch.zeros(1).expand(2**40, 1)
    else:
        model[name] = "weights"


def _hostile_pickle(how: str, folder: Path) -> bytes:
    """Files of torch's form before it took to archives, or archives, whose pickle is hostile."""
    if how == "code":
        return pickle.dumps(Runs(folder / "ran"))
    if how == "global":
        return _saved({"format": 2, "settings": "{}", "model": Runs(folder / "ran")})
    if how == "deep":
        return _archive(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    if how == "wide":
        return _archive(b"\x80\x02(" + b"K\x00" * 2_000_000 + b"l.")
    if how == "long":
        return b"\x80\x02X" + struct.pack("<I", 2**32 - 2) + b"x."
    if how == "bytearray":
        return _archive(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.")
    if how == "storage":
        return _archive(b"\x80\x02ctorch.storage\nUntypedStorage\nJ\xff\xff\xff\x7f\x85R.")
    level = b"]q\x00"  # a list of two of the list before, forty times
    for number in range(40):
        level += b"(h" + bytes([number]) + b"h" + bytes([number]) + b"tq" + bytes([number + 1])
    return _archive(b"\x80\x02" + level + b".")


def _archive(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("data.pkl", data), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def _hostile_zip(how: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if how == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(data)) as sound, zipfile.ZipFile(buffer, "w", method) as archive:
        if how == "nothing":
            return buffer.getvalue()
        for name in sound.namelist():
            content = sound.read(name)
            if how == "compressed" and name.endswith("/data/0"):
                content = bytes(1 << 27)
            archive.writestr(f"../../{name}" if how == "names" else name, content)
            if how == "again":
                archive.writestr(name + "/../0", content)
    found = buffer.getvalue()
    if how == "lying":  # sizes in the directory at the end
        at = found.rindex(b"PK\x01\x02")
        found = found[: at + 20] + struct.pack("<II", 2**31, 2**31) + found[at + 28 :]
    return found


def _check_checkpoint(case: dict[str, Any], folder: Path) -> None:
    from pclkd.training.models.outside import read_outside_model
    from pclkd.training.runs.checkpoint import load_checkpoint, load_model

    run = folder / "run"
    run.mkdir()
    (run / "last.pt").write_bytes(hostile_weights(case, folder))

    def use() -> None:
        checkpoint = load_checkpoint(run)
        load_model(checkpoint, run)
        assert checkpoint.settings.loader.cache_dir is None

    held(use)
    if case["what"] not in ("field", "settings", "tensor"):  # with sound pickles all backbones are tried: seconds
        held(lambda: read_outside_model(run / "last.pt"))
    assert not (folder / "ran").exists()


@st.composite
def _exports(draw: st.DrawFn) -> dict[str, Any]:
    header = st.one_of(
        st.sampled_from(
            [
                b"{}",
                b"",
                b"[" * 50_000,
                b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4398046511104]}}',
                b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
                b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}',
                b'{"../../escaped":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
                b'{"__metadata__":{"a":1}}',
                b'{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}',
            ]
        ),
        st.binary(max_size=60),
    )
    size = st.one_of(st.none(), st.sampled_from([0, 2**63, 2**64 - 1, 10**8, 7]))
    return {
        "header": draw(header),
        "size": draw(size),
        "data": draw(st.binary(max_size=8)),
        "card": draw(mutations),
        "sound": draw(st.booleans()),
    }


def _check_export(case: dict[str, Any], folder: Path) -> None:
    from pclkd.training.exchange.trained_backbone import load_backbone

    header = case["header"]
    size = len(header) if case["size"] is None else case["size"]
    (folder / "backbone.safetensors").write_bytes(struct.pack("<Q", size) + header + case["data"])
    card = {"format": 1, "backbone": {"name": "c3d", "width": 0.125, "feature_dim": 64}}
    (folder / "card.json").write_text(json.dumps(card if case["sound"] else mutated(card, case["card"])))
    held(lambda: load_backbone(folder))


TARGETS = (
    Target("checkpoints", _contents(), _check_checkpoint, 60),
    Target("exports", _exports(), _check_export, 40),
)
