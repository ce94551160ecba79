"""The life of one command of the fault suite: a server with everything imported, and what it does in each child.

Importing torch takes seconds, a small run one or two. So this program imports once and forks for every line of standard
input (JSON: see `zygote.Zygote.start`); it answers with a line when a child has begun and one when it has ended. It
stays single-threaded, so that its children begin as a fresh process does. They lead sessions of their own, die with
the server, and leave by Python's ordinary way out.
"""

import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from pclkd.sharding.common.processes import die_with

WRITING = os.O_WRONLY | os.O_RDWR
CHANGES = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate"}


def trip(at, act):
    """Count, and act at the `at`-th time; the counter is returned with the function that counts."""
    count = [0]

    def counted():
        count[0] += 1
        if count[0] == at:
            act()

    return count, counted


def jump(seconds):
    """The wall clock is another one from now on; the clock that durations are measured with goes on."""
    clock, clock_ns = time.time, time.time_ns
    time.time = lambda: clock() + seconds
    time.time_ns = lambda: clock_ns() + int(seconds * 1e9)


def action(told):
    """What is to happen: ["kill"], ["hang"], ["jump", seconds] or ["remove", path]."""
    kind, *values = told
    return {
        "none": lambda: None,
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "hang": lambda: threading.Event().wait(),
        "jump": lambda: jump(*values),
        "remove": lambda: Path(*values).unlink(),
    }[kind]


def count_changes(below, counted):
    """Call at every change of a file or folder in `below`, just before it happens."""

    def heard(event, details):
        if event == "open":
            path, mode, flags = details
            if not (isinstance(flags, int) and flags & WRITING) and not (
                isinstance(mode, str) and set(mode) & set("wax+")
            ):
                return
        elif event in CHANGES:
            path = details[0]
        else:
            return
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(below):
            counted()

    sys.addaudithook(heard)


def count_reads(counted):
    """Call at every range that is read from a shard."""
    pread = os.pread

    def read(*given):
        counted()
        return pread(*given)

    os.pread = read


def keep_diary(path):
    """Write down the samples of every step that was done."""
    from pclkd.training.loop.figures import DeferredFigures

    send = DeferredFigures.send

    def sent(self, step, losses, batches, line):
        ids = [number for batch in batches for number in batch.sample_index.tolist()]
        with Path(path).open("a") as diary:
            diary.write(json.dumps([step, ids]) + "\n")
        return send(self, step, losses, batches, line)

    DeferredFigures.send = sent


def live(order):
    """Be the command that was ordered; returns its exit code."""
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order["environment"])
    for name, value in order["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}")
        if name == "DATA":  # in addition to what is there
            status = Path("/proc/self/status").read_text().splitlines()
            value += next(int(row.split()[1]) << 10 for row in status if row.startswith("VmData"))
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
    if order["diary"]:
        keep_diary(order["diary"])
    counts = {}
    if told := order["on_change"]:
        counts["changes"], counted = trip(told["at"], action(told["do"]))
        count_changes(told["below"], counted)
    if told := order["on_read"]:
        counts["reads"], counted = trip(told["at"], action(told["do"]))
        count_reads(counted)
    try:
        if order["program"] == "code":
            exec(order["arguments"][0], {"__name__": "__main__"})
        else:
            from pclkd.sharding.cli import main as shard
            from pclkd.training.cli import main as train

            sys.argv = [order["program"], *order["arguments"]]
            {"shard-ucf101": shard, "train-kd": train}[order["program"]](order["arguments"])
    finally:
        if counts:
            print("counted", json.dumps({name: count[0] for name, count in counts.items()}), flush=True)


def serve():
    die_with(os.getppid())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job that a shell put into the background ignores it
    import nvidia.dali.fn  # noqa: F401
    import torch._dynamo  # building a network and the first step of an optimiser import it
    import torch.utils.tensorboard  # noqa: F401
    from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin  # noqa: F401

    import pclkd.pipeline.pixels.dali
    import pclkd.sharding.packing.pack
    import pclkd.training.evaluation.evaluate
    import pclkd.training.findings.report
    import pclkd.training.loop.trainer
    import pclkd.training.report.report  # noqa: F401

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    server, lines = os.getpid(), b""
    print(json.dumps({"ready": threading.active_count()}), flush=True)
    while True:
        ready, _, _ = select.select([0, ours], [], [])
        if ours in ready:
            ours.recv(4096)
        if 0 in ready:
            new = os.read(0, 1 << 16)
            if not new:
                return
            lines += new
        while b"\n" in lines:
            line, _, lines = lines.partition(b"\n")
            order = json.loads(line)
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                ours.close()
                theirs.close()
                die_with(server)
                live(order)
                return
            print(json.dumps({"began": order["name"], "pid": child}), flush=True)
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if child == 0:
                break
            print(json.dumps({"ended": child, "code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    serve()
