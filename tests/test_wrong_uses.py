"""What a newcomer gets wrong: each use ends in one line that names the value, the place and the remedy.

In the folder where they are typed: `shards` (a set of 16 videos, frames of 64x86, 12 of them in the train part), `run`
(trained on it), `videos` and `lists` (what it was packed from), `file`, `junk.pt`, `table.csv`, and the folders
`empty`, `d.npz` and `exported`.
"""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from pclkd.benchmarks.cli import main as bench_throughput
from pclkd.sharding.cli import main as shard_ucf101
from pclkd.training.cli import main as train_kd

PROGRAMS: dict[str, click.Group] = {
    "shard-ucf101": shard_ucf101,
    "train-kd": train_kd,
    "bench-throughput": bench_throughput,
}
TINY = "--preset=demo --set backbone.width=0.125 --set loader.batch_size=4"
PACK, TRAIN, TEACH = (
    "shard-ucf101 pack videos out --splits lists",
    f"train-kd pretrain --data shards --out out {TINY}",
    f"train-kd distill --data shards --out out {TINY}",
)
STUDY, LOAD = "train-kd study --data shards --out out", "bench-throughput load --data shards --quick"

USES: dict[str, str] = {
    # --- shard-ucf101
    "shard-ucf101 pak": "No such command 'pak'. Did you mean 'pack'?",
    "shard-ucf101 pack": "Missing argument 'VIDEOS'",
    "shard-ucf101 pack videos": "Missing argument 'OUT'",
    "shard-ucf101 pack nowhere out": "no folder of videos at nowhere - give the folder",
    "shard-ucf101 pack file out": "no folder of videos at file - give the folder",
    "shard-ucf101 pack empty out": "no video in a class folder of empty - make a folder for each class",
    "shard-ucf101 pack videos out": "named like those of ucf101, but there are no lists - say --splits LISTS",
    "shard-ucf101 pack videos out --splits nowhere": "no folder of split lists at nowhere - give",
    "shard-ucf101 pack videos out --splits empty": "no lists of a known kind in empty - give",
    "shard-ucf101 pack lists out --splits videos": "no lists of a known kind in videos - give",
    "shard-ucf101 pack videos out --split lists": "No such option '--split'. (Did you mean one of:",
    "shard-ucf101 pack videos file --splits lists": "file is not a folder - give another place",
    "shard-ucf101 pack videos /proc/x --splits lists": "/proc/x cannot be made a folder - give another place",
    "shard-ucf101 pack videos shards --splits lists": "made with other settings (height 64, not 128, width 86",
    f"{PACK} --quality 101": "a JPEG quality of 101 - use 1 to 95",
    f"{PACK} --quality ninety": "Invalid value for '--quality': 'ninety' is not a valid integer",
    f"{PACK} --size 128,171": "'128,171' is neither HEIGHTxWIDTH, such as 128x171, nor a short side",
    f"{PACK} --size 0x0": "a frame size of 0x0 pixels - use 16 to 4096 a side",
    f"{PACK} --size 99999x9": "a frame size of 99999x9 pixels - use 16 to 4096 a side",
    f"{PACK} --fps -1": "-1.0 frames a second - use up to 1000, or 0",
    f"{PACK} --fps nan": "nan frames a second - use up to 1000, or 0",
    f"{PACK} --max-frames -3": "at most -3 frames - use 1 or more, or 0",
    f"{PACK} --chroma 422": "'--chroma': '422' is not one of '420', '444'",
    f"{PACK} --workers 0": "'--workers': 0 is not in the range x>=1",
    f"{PACK} --engine dask": "'--engine': 'dask' is not one of 'local', 'ray'",
    f"{PACK} --ray-address 1.2.3.4:6379": "--ray-address 1.2.3.4:6379 without --engine ray - say --engine ray",
    f"{PACK} --file-timeout 0": "a time limit of 0.0 s a file - use more than 0",
    f"{PACK} --file-timeout nan": "a time limit of nan s a file - use more than 0",
    f"{PACK} --part 0/4": "part 0/4 - count the parts from 1",
    f"{PACK} --part 5/4": "part 5/4 - count the parts from 1",
    f"{PACK} --part 1": "'1' is not I/N, such as 3/8",
    f"{PACK} --part 1/2 --overwrite": "--part makes a new set; --overwrite is for one run",
    f"{PACK} --test-share 0.2": "a test share of 0.2 for ucf101, which has splits of its own - leave --test-share out",
    f"{PACK} --salvage-frames 0": "'--salvage-frames': 0 is not in the range x>=1",
    "shard-ucf101 pack videos out --dataset folder --test-share 2": "test share of 2",
    "shard-ucf101 pack videos out --dataset folder --test-share nan": "test share of nan",
    "shard-ucf101 pack videos out --dataset hmdb51": "no lists for videos, which hmdb51 needs - say --splits",
    "shard-ucf101 pack videos out --dataset ucf": "'ucf' is not one of 'auto', 'ucf101'",
    "shard-ucf101 pack table.csv out": "none of the 1 videos in table.csv is there, the first is nope.avi - write",
    "shard-ucf101 pack bad.csv out": "bad.csv is no table of a known kind",
    "shard-ucf101 pack s3:// out": "s3:// names no bucket - write it as s3://BUCKET/FOLDER",
    "shard-ucf101 pack nope://x out": "nope://x cannot be opened",
    "shard-ucf101 finish empty": "no unfinished shard set at empty - pack its parts first",
    "shard-ucf101 merge shards": "Missing argument 'SECOND'",
    "shard-ucf101 merge shards nowhere out": "no folder of shards at nowhere - make it with 'shard-ucf101 pack'",
    "shard-ucf101 merge shards empty out": "no finished shard set at empty",
    "shard-ucf101 info nowhere": "no folder of shards at nowhere - make it with",
    "shard-ucf101 info file": "no folder of shards at file - make it with",
    "shard-ucf101 info run": "no finished shard set at run: it has no manifest.json",
    "shard-ucf101 info shards --quality lists": "at lists/",
    "shard-ucf101 preview shards --video nope": "no video 'nope' in shards - did you mean 'v_",
    "shard-ucf101 preview shards --frames 1000": "'--frames': 1000 is not in the range 1<=x<=400",
    "shard-ucf101 preview shards --out file": "file is not a folder - give another place for the pictures",
    "shard-ucf101 verify videos": "no finished shard set at videos: it has no manifest.json",
    "shard-ucf101 synth": "Missing argument 'OUT'",
    "shard-ucf101 synth file": "file is not a folder - give another place for the videos",
    "shard-ucf101 synth out --classes 11": "classes = 11: input should be less than or equal to 10 - it means:",
    "shard-ucf101 synth out --groups 2": "groups = 2: input should be greater than or equal to 3 - it means:",
    "shard-ucf101 synth out --size 33x33": "height = 33: input should be a multiple of 2 - it means: Pixels",
    "shard-ucf101 synth out --seed -1": "seed = -1: input should be greater than or equal to 0 - it means:",
    "shard-ucf101 --import nope.py info shards": "--import nope.py: no such file - give the file",
    "shard-ucf101 --imprt x info shards": "No such option '--imprt'. Did you mean '--import'?",
    # --- train-kd pretrain: places
    "train-kd pretran": "No such command 'pretran'. Did you mean 'pretrain'?",
    "train-kd pretrain": "Missing option '--data'",
    "train-kd pretrain --data shards": "Missing option '--out'",
    "train-kd pretrain --data nowhere --out out": "no folder of shards at nowhere - make it with",
    "train-kd pretrain --data videos --out out": "no finished shard set at videos",
    f"train-kd pretrain --data shards --out file {TINY}": "file cannot be a folder: file is a file - give another",
    f"train-kd pretrain --data shards --out file/x {TINY}": "file is a file - give another folder",
    f"train-kd pretrain --data shards --out /proc/x {TINY}": "file or directory (/proc/x) - it went away meanwhile, or",
    f"train-kd pretrain --data shards --out run {TINY}": "run already holds a run - add --resume",
    f"train-kd pretrain --data shards --out run --resume {TINY} --set optimizer.lr=0.2": "with optimizer.lr = 0.05",
    "train-kd pretrain --data shards --out out --teacher run": "No such option '--teacher'",
    "train-kd pretrain --data shards --out out --learning-rate 1": "No such option '--learning-rate'",
    "train-kd --import nope.py models": "--import nope.py: no such file - give the file",
    # --- train-kd pretrain: settings
    f"{TRAIN} --preset=pc": "unknown preset 'pc' - take one of: pcl,",
    f"{TRAIN} --backbone r3e": "unknown backbone 'r3e'; known are c3d, r3d,",
    f"{TRAIN} --backbone ''": "unknown backbone ''; known are c3d, r3d,",
    f"{TRAIN} --epochs -1": "'--epochs': -1 is not in the range x>=0",
    f"{TRAIN} --max-steps 0": "'--max-steps': 0 is not in the range x>=1",
    f"{TRAIN} --set": "Option '--set' requires an argument",
    f"{TRAIN} --set lr": "--set 'lr' is not an assignment - write it as --set name=value",
    f"{TRAIN} --set lr=0.1": "--set lr: no such setting - did you mean optimizer.lr? --print-config",
    f"{TRAIN} --set batch=4": "--set batch: no such setting - did you mean loader.batch_size?",
    f"{TRAIN} --set optimizer=sgd": "--set optimizer: no such setting - did you mean optimizer.",
    f"{TRAIN} --set optimizer.lr=": "--set optimizer.lr=: input should be a valid number",
    f"{TRAIN} --set optimizer.lr=0": "--set optimizer.lr=0: input should be greater than 0 - it means: Learning rate",
    f"{TRAIN} --set optimizer.lr=1e9": "lr=1000000000.0: input should be less than or equal to 100 - it means:",
    f"{TRAIN} --set optimizer.lr=inf": "--set optimizer.lr=inf: input should be a finite number - it means",
    f"{TRAIN} --set optimizer.lr=nan": "--set optimizer.lr=nan: input should be a finite number - it means",
    f"{TRAIN} --set optimizer.name=adam": "name=adam: input should be 'sgd', 'adamw' or 'lars'",
    f"{TRAIN} --set optimizer.milestones=0.5": "milestones=0.5: needs several values in brackets, such as [0.5, 0.75]",
    f"{TRAIN} --set optimizer.milestones=[2,3]": "milestones.0=2: input should be less than 1 - it means: Shares",
    f"{TRAIN} --set optimizer.accumulate=100": "an epoch has 3 batches, optimizer.accumulate is 100 - --set",
    f"{TRAIN} --set loader.batch_size=0": "--set loader.batch_size=0: input should be greater than or equal to 1",
    f"{TRAIN} --set loader.batch_size=1": "batch_size=1 leaves the batch norm of pcl.pretext_head=compare a single",
    f"{TRAIN} --set loader.batch_size=1 --set pcl.pretext_head=linear": "in_batch with one sample a step has nothing",
    f"{TRAIN} --set loader.batch_size=99": "12 samples do not fill one step of 1 process(es) x batch size 99 - lower",
    f"{TRAIN} --set loader.crop=17": "--set loader.crop=17: input should be a multiple of 2 - it means: Height",
    f"{TRAIN} --set loader.crop=112": "loader.crop 112 does not fit the stored frames of 64x86 in shards - --set",
    f"{TRAIN} --set loader.decode=mixed": "loader.decode=mixed needs a GPU, and this process has none - use",
    f"{TRAIN} --set loader.modality=flow": "modality=flow: input should be 'residual' or 'rgb' - it means: residual:",
    f"{TRAIN} --set split=4": "no split 4 in shards - use one of the splits 1 (12 train, 4 test)",
    f"{TRAIN} --set seed=-1": "--set seed=-1: input should be greater than or equal to 0 - it means: Keys every",
    f"{TRAIN} --set fraction=25": "--set fraction=25: input should be less than or equal to 1 - it means: Share",
    f"{TRAIN} --set fraction=0.01": "do not fill one step of 1 process(es) x batch size 4 - lower the batch size",
    f"{TRAIN} --set precision=fp8": "--set precision=fp8: input should be 'auto', 'fp32', 'fp16' or 'bf16'",
    f"{TRAIN} --set precision=fp16": "precision=fp16 needs a GPU, and this process has none - use precision=auto",
    f"{TRAIN} --set compile=yes": "--set compile=yes: input should be 'auto', 'off', 'on' or 'cuda-graphs'",
    f"{TRAIN} --set augment=none": "--set augment: no such setting - did you mean augment.",
    f"{TRAIN} --set augment.hue=2": "--set augment.hue=2: input should be less than or equal to 0.5 - it means: Hue",
    f"{TRAIN} --set augment.blur_sigma=[2,1]": "--set augment.blur_sigma=[2,1]: blur_sigma 2, 1: needs two numbers",
    f"{TRAIN} --set augment.crop_scale=[0.5,2]": "--set augment.crop_scale=[0.5,2]: crop_scale (0.5, 2.0): a window",
    f"{TRAIN} --set tuples.clip_frames=1": "tuples.clip_frames 1: pretext.task vcp swaps quarters of a clip - set a",
    f"{TRAIN} --set pretext.task=jigsaw": "--set pretext.task=jigsaw: input should be 'vcp', 'order',",
    f"{TRAIN} --set pretext.changed=all": "--set pretext.changed=all: pretext.task=vcp does not choose",
    f"{TRAIN} --set pcl.contrast=simclr": "contrast=simclr: input should be 'bank', 'queue', 'in_batch' or 'none'",
    f"{TRAIN} --set pcl.contrast=none --set pretext.task=none": "no term of the loss is left - --set",
    f"{TRAIN} --set pcl.own_terms.nope=1": "pcl.own_terms.nope=1: no term of that name is registered - ",
    f"{TRAIN} --set backbone.width=100": "--set backbone.width=100: input should be less than or equal to 4",
    f"{TRAIN} --set sync_batch_norm=true": "sync_batch_norm needs GPUs, and this process has none - --set sync",
    f"{TRAIN} --set checkpoint.best=loss": "--set checkpoint.best=loss: input should be '', 'val/pretext_top1_pct'",
    # --- train-kd distill
    TEACH: "Missing option '--teacher'",
    f"{TEACH} --teacher nowhere": "no checkpoint at nowhere - give the folder of a run",
    f"{TEACH} --teacher shards": "no checkpoint at shards/last.pt - give the folder of a run",
    f"{TEACH} --teacher junk.pt": "junk.pt cannot be read as a checkpoint",
    f"{TEACH} --teacher run --set pretext.task=rotation": "learned the pretext task vcp, the student learns rotation",
    f"{TEACH} --teacher run --teacher-key a --teacher-key b": "2 teacher keys for 1 teachers - say --teacher-key once",
    f"{TEACH} --teacher run --set kd.pretext_weight=0 --set kd.contrast_weight=0 --set kd.feature_weight=0": (
        "no term of the loss asks the teacher - --set kd.pretext_weight=1"
    ),
    f"{TEACH} --teacher run --set kd.pretext_temperature=0": "kd.pretext_temperature=0: input should be greater than 0",
    # --- what comes after training
    "train-kd search run query.avi --index nowhere.npz": "no features at nowhere.npz - write it with train-kd embed",
    "train-kd search run query.avi --index file": "file is neither .npz nor .parquet - end the name",
    "train-kd fit-heads --data shards --out out": "Missing option '--teacher'",
    "train-kd fit-heads --teacher run --data empty --out out": "no finished shard set at empty",
    "train-kd predict run file": "no fine-tuned network at run/finetuned.safetensors - fine-tune again",
    "train-kd predict run": "Missing argument 'VIDEOS...'",
    "train-kd embed nowhere file -o out.npz": "no checkpoint at nowhere - give the folder of a run",
    "train-kd embed run file": "Missing option '-o' / '--out'",
    "train-kd evaluate run": "Missing option '--data'",
    "train-kd evaluate nowhere --data shards --protocol linear": "no checkpoint at nowhere - give the folder of a run",
    "train-kd evaluate run --data nowhere --protocol linear": "no folder of shards at nowhere - make it with",
    "train-kd evaluate run --data shards --protocol lineal": "'lineal' is not one of 'pretext', 'linear', 'knn'",
    "train-kd evaluate run --data shards --protocol linear --split 9": "no split 9 in shards - use one of the splits",
    "train-kd evaluate run --data shards --protocol linear --split 0": "'--split': 0 is not in the range x>=1",
    "train-kd evaluate run --data shards --protocol finetune --lr -1": "lr = -1.0: input should be greater than 0 - it",
    "train-kd evaluate run --data shards --protocol finetune --lr 1e9": "lr = 1000000000.0: input should be less than",
    "train-kd evaluate run --data shards --protocol finetune --batch-size 99": "x batch size 99 - lower the batch size",
    "train-kd controls --data shards --out file --preset=demo": "file cannot be a folder: file is a file - give",
    "train-kd controls --data shards --out out --only nothing": "'nothing' is not one of 'motion', 'untrained',",
    "train-kd export run": "Missing argument 'OUT'",
    "train-kd export run file": "file cannot be a folder: file is a file - give another folder",
    "train-kd export run out --onnx": "Missing option '--data': --onnx is checked on real clips",
    "train-kd models --width 100": "'--width': 100.0 is not in the range 0<x<=4",
    "train-kd models --width nan": "backbone width nan is not a positive number - 1.0 is",
    "train-kd models --crop 8": "'--crop': 8 is not in the range x>=16",
    "train-kd preview --data shards --out file --preset=demo": "file cannot be a folder: file is a file - give",
    "train-kd report nowhere": "no folder nowhere - give a run folder",
    "train-kd report shards": "shards holds no run: neither it nor a folder in it has a settings.json - give",
    "train-kd demo --out file": "File exists (file) - a file stands where a folder is to be; choose another folder",
    "train-kd demo --out out --videos videos": "needs the videos and their lists, and got only one of them - give both",
    f"{STUDY} --pairs r3d": "--pairs 'r3d' is no pair of backbones - write TEACHER:STUDENT",
    f"{STUDY} --fractions 2": "--fractions '2' is no share of the videos - give numbers in (0, 1]",
    f"{STUDY} --terms everything": "--terms 'everything' is nothing that can be distilled - give recipe",
    f"{STUDY} --widths wide": "--widths 'wide' is no factor of the teacher's width - give numbers",
    f"{STUDY} --part 3/2": "--part '3/2' is no part of a plan - write I/N",
    f"{STUDY} --set nope=1": "--set nope: no such setting - did you mean",
    f"{STUDY} --dry-run": "12 samples do not fill one step of 1 process(es) x batch size 16 - lower the batch size",
    "train-kd study --data shards --out file --preset demo --dry-run": "file cannot be a folder: file is a file - give",
    "train-kd latency empty": "empty holds no study: there is no study.json - give the folder that",
    "train-kd visualize run --data shards --part all": "'--part': 'all' is not one of 'retrieval',",
    "train-kd visualize run --data shards --teacher nowhere": "no teacher at nowhere - give a run folder",
    "train-kd doctor --out file": "file cannot be a folder: file is a file - give another folder",
    "train-kd doctor --only all": "--only all: no such check - take some of: gpus, versions,",
    "train-kd evaluate run --data shards --protocol linear --clips 100000": "100000 is not in the range 1<=x<=1000",
    "train-kd controls --data shards --out out --clips 1001": "'--clips': 1001 is not in the range 1<=x<=1000",
    "train-kd predict run file --clips 1001": "'--clips': 1001 is not in the range 1<=x<=1000",
    "train-kd embed run file -o out.npz --clips 1000000000000": "1000000000000 is not in the range 1<=x<=1000",
    "train-kd search run query.avi --index i.npz --clips 1001": "'--clips': 1001 is not in the range 1<=x<=1000",
    "train-kd visualize run --data shards --clips 1001": "'--clips': 1001 is not in the range 1<=x<=1000",
    "train-kd controls --data shards --out out --backbone nope --only untrained": "unknown backbone 'nope'; known",
    "train-kd controls --data shards --out out --preset demo --only supervised --batch-size 99": "batch size 99 - ",
    "train-kd controls --data shards --out s3://b/x": "s3://b/x is a URL, and results are written to a local folder - ",
    "train-kd predict exported videos": "exported is an exported backbone, which names no actions - give the run",
    "train-kd embed run videos -o none/f.npz": "no folder none for f.npz - make it first",
    "train-kd embed run videos -o d.npz": "d.npz is a folder - give the name of a file",
    "train-kd embed run videos -o file/f.npz": "file cannot be a folder: file is a file - give another folder",
    "train-kd embed run videos -o s3://b/f.npz": "s3://b/f.npz is a URL, and results are written to a local folder - ",
    "train-kd search run query.avi --index i.npz --out run/last.pt": "run/last.pt is no page - end its name in .html",
    "train-kd search run query.avi --index i.npz --out file/x.html": "file cannot be a folder: file is a file - give",
    "train-kd search run query.avi --index i.npz --out s3://x.html": "s3://x.html is a URL, and results are written to",
    "train-kd visualize run --data shards --out file": "file cannot be a folder: file is a file - give another folder",
    "train-kd visualize run --data shards --out s3://b/x": "s3://b/x is a URL, and results are written to a local",
    "train-kd preview --data shards --out s3://b/x --preset=demo": "s3://b/x is a URL, and results are written to",
    "train-kd export run out --data shards": "Option '--data' without '--onnx': nothing else is checked",
    "train-kd visualize run --data shards --part retrieval --teacher run": "'--teacher' without a part that compares",
    "train-kd export run s3://bucket/x": "s3://bucket/x is a URL, and results are written to a local folder - give one",
    # --- bench-throughput
    "bench-throughput lod": "No such command 'lod'. Did you mean 'load'?",
    "bench-throughput load": "Missing option '--data'",
    "bench-throughput load --data nowhere": "no folder of shards at nowhere - make it with",
    f"{LOAD} --recipe fancy": "'--recipe': 'fancy' is not one of 'plain', 'full'",
    f"{LOAD} --frames 0": "--frames 0: the pretext task quarters clips, and the networks halve them 3 times - give",
    f"{LOAD} --crop 17": "--crop 17: clips are cut into quadrants - give an even number",
    f"{LOAD} --crop 500": "--crop 500 does not fit the stored frames of 64x86 in shards - use 64 or less",
    f"{LOAD} --threads 1,0": "'1,0' is not a list of numbers from 1 on, such as 1,2,4",
    f"{LOAD} --minutes 0": "'--minutes': 0.0 is not in the range x>0",
    f"{LOAD} --json nowhere/x.json": "cannot write the result to nowhere/x.json - give a file in a folder that exists",
    "bench-throughput peers --data shards --videos nowhere --quick": "no folder of videos at nowhere - give the folder",
    "bench-throughput shard --videos videos --size big": "'big' is not HEIGHTxWIDTH, such as 128x171",
    "bench-throughput shard --videos videos --splits lists --quality 100": "a JPEG quality of 100 - use 1 to 95",
    "bench-throughput scale --data shards --videos 0": "'0' is not a list of numbers from 1 on",
    "bench-throughput step --backbone nope --quick": "unknown backbone 'nope'; known are c3d, r3d,",
    "bench-throughput step --width 100": "'--width': 100.0 is not in the range x<=4",
    "bench-throughput step --peers --options": "--options does not go with --peers, which trains r3d_18 - leave one",
    "bench-throughput train --data shards --split 9 --quick": "no split 9 in shards - use one of the splits",
    "bench-throughput compare nowhere junk.pt": "cannot read nowhere (No such file or directory) - give a file",
    "bench-throughput compare file file": "file is no benchmark result of this version",
    "bench-throughput gpu --minutes 9": "Missing option '--out'",
    "bench-throughput gpu --out file": "file) - a file stands where a folder is to be; choose another folder",
}


@pytest.fixture(scope="module")
def folder(synthetic_shards: Path, synthetic_videos: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place, before = tmp_path_factory.mktemp("wrong"), Path.cwd()
    for name, real in (
        ("shards", synthetic_shards),
        ("videos", synthetic_videos.videos),
        ("lists", synthetic_videos.splits),
    ):
        (place / name).symlink_to(real)
    (place / "empty").mkdir()
    (place / "d.npz").mkdir()
    (place / "exported").mkdir()
    (place / "exported" / "config.json").write_text("{}")
    (place / "file").write_text("no folder\n")
    (place / "junk.pt").write_bytes(b"no tensors")
    (place / "table.csv").write_text("path,label\nnope.avi,1\n")
    (place / "bad.csv").write_text("a,b\n1,2\n")
    os.chdir(place)
    trained = f"{TRAIN.replace('--out out', '--out run')} --max-steps=1 --set evaluation.every=0"
    done = CliRunner().invoke(train_kd, shlex.split(trained)[1:])
    assert done.exit_code == 0, done.output
    yield place
    os.chdir(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("use", USES)
def test_a_wrong_use_is_told_in_a_line(use: str, folder: Path) -> None:
    program, *arguments = shlex.split(use)
    before = sorted(path.name for path in folder.iterdir())
    done = CliRunner().invoke(PROGRAMS[program], arguments)
    assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit), (done.exception, done.output)
    assert sorted(path.name for path in folder.iterdir()) == before
    *above, line = done.stderr.strip().splitlines()
    assert USES[use] in line, line
    assert "Traceback" not in done.output
    if line.startswith("Error: "):  # click's own
        assert not above or (above[0].startswith("Usage: ") and above[1].endswith("for help."))
    else:
        assert line.startswith("error: ") and " - " in line and not above, done.stderr


def test_there_are_many_ways_to_go_wrong() -> None:
    assert len(USES) >= 150
    assert {use.split()[0] for use in USES} == set(PROGRAMS)
    commands = {f"{name} {command}" for name, program in PROGRAMS.items() for command in program.commands}
    tried = {" ".join(use.split()[:2]) for use in USES}
    hardly_any_options = {"bench-throughput teacher", "bench-throughput all", "bench-throughput gpu-section"}
    assert commands - tried <= hardly_any_options
