"""train-kd visualize and train-kd search, as the command line gives them."""

import json
from pathlib import Path

import click

from pclkd.sharding.common.errors import visible
from pclkd.training.options import CLIPS, KEY

__all__ = ["search", "visualize"]

_PARTS = ("retrieval", "embedding", "confusion", "attention", "similarity", "collapse")
_COMPARING = ("similarity", "collapse")  # with teachers


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Shard set whose test videos are shown, a folder or a URL.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder; by default RUN/learned, or RUN/learned-best of RUN/best.pt.",
)
@click.option(
    "--part",
    "parts",
    type=click.Choice(_PARTS),
    multiple=True,
    help="This part alone, on a page PART.html; again for more.",
)
@click.option(
    "--teacher",
    "teachers",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Compare with this network; by default those that taught RUN.",
)
@click.option("--teacher-key", default="", metavar="PREFIX", help="Which network of several in a teacher's file.")
@click.option("--clips", type=CLIPS, default=10, show_default=True, help="Clips a video.")
def visualize(
    run: Path,
    data: str,
    out: Path | None,
    parts: tuple[str, ...],
    teachers: tuple[Path, ...],
    teacher_key: str,
    clips: int,
) -> None:
    """Show what the network of RUN has learned: one page, index.html, with its pictures and numbers beside it.

    Nearest videos, all videos in a plane, confusion, attention (Grad-CAM), likeness to its teacher (CKA), collapse.
    """
    if (teachers or teacher_key) and parts and not set(_COMPARING) & set(parts):
        raise click.UsageError(f"Option '--teacher' without a part that compares: --part {' or '.join(_COMPARING)}.")
    from pclkd.training.compute.neighbours import choose_waiting

    choose_waiting()
    from pclkd.training.visualize.visualize import visualize_run

    page = visualize_run(run, data, out, parts=parts, clips=clips, teachers=teachers, teacher_key=teacher_key)
    click.echo(f"wrote {visible(str(page))}")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("query", type=click.Path(path_type=Path))
@click.option("--index", type=click.Path(path_type=Path), required=True, help="Features that train-kd embed wrote.")
@click.option("--nearest", type=click.IntRange(min=1), default=10, show_default=True, help="Videos to find.")
@click.option("--clips", type=CLIPS, default=10, show_default=True, help="Clips of the query.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("search.html"), show_default=True, help="The page."
)
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON.")
@KEY
def search(run: Path, query: Path, index: Path, nearest: int, clips: int, out: Path, as_json: bool, key: str) -> None:
    """Find the videos of an index that are most like the video QUERY; a page shows them as film strips.

    RUN is the network that gave the index.
    """
    from pclkd.training.compute.neighbours import choose_waiting

    choose_waiting()
    from pclkd.training.visualize.search import search_videos

    found = search_videos(run, query, index, out, key=key, nearest=nearest, clips=clips)
    if as_json:
        click.echo(json.dumps(found))
        return
    for row in found["nearest"]:
        click.echo(f"{row['cosine']:.4f}  {visible(row['video'])}")
    click.echo(f"wrote {visible(str(out))}")
