"""`shard-ucf101 preview`."""

from pathlib import Path

import click

from pclkd.sharding.options import FOLDER

__all__ = ["preview"]


@click.command()
@click.argument("shards", metavar="OUT")
@click.option("--video", metavar="KEY", help="Which video, by its key.  [default: one frame of every class]")
@click.option("--out", type=FOLDER, default=".", show_default="this folder", help="Folder for the pictures.")
@click.option("--frames", type=click.IntRange(1, 400), default=12, show_default=True, help="Frames on a video's sheet.")
def preview(shards: str, video: str | None, out: Path, frames: int) -> None:
    """Make pictures of the shard set in OUT.

    Of a video: a sheet of its frames, <KEY>.png, and <KEY>.gif, which plays at the stored speed.
    """
    from pclkd.sharding.inspection.preview import LONGEST_GIF, preview_classes, preview_video
    from pclkd.sharding.shards.index import ShardIndex
    from pclkd.sharding.shards.samples import find_sample

    index = ShardIndex.open(shards)
    if video is None:
        click.echo(f"wrote {preview_classes(index, out)}")
        return
    for path in preview_video(index, video, out, frames=frames):
        click.echo(f"wrote {path}")
    count = index.frame_count(find_sample(index, video))
    if count > LONGEST_GIF:
        click.echo(f"the GIF holds the first {LONGEST_GIF} of {count} frames")
