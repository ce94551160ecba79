"""The table of JPEG qualities as text."""

import click

from pclkd.sharding.inspection.quality import QualityTable

__all__ = ["print_quality"]


def print_quality(table: QualityTable) -> None:
    """Write the table to standard output: a row for what the set holds, then one for each quality and chroma."""
    click.echo(
        f"measured on {table.frames} frames of {table.videos} videos against the scaled originals\n"
        "                    bytes   of this    PSNR    worst     PSNR    SSIM    SSIM\n"
        "quality  chroma   a frame      set   RGB dB   RGB dB  luma dB     RGB    luma"
    )
    stored = table.rows[0].bytes_per_frame
    for row in table.rows:
        line = (
            f"{row.quality:>7}  {row.chroma:<6}  {row.bytes_per_frame:>8.0f}  {row.bytes_per_frame / stored:>7.0%}"
            f"  {row.psnr_rgb_db:>7.2f}  {row.psnr_rgb_db_worst:>7.2f}  {row.psnr_luma_db:>7.2f}"
            f"  {row.ssim_rgb:>6.4f}  {row.ssim_luma:>6.4f}"
        )
        click.echo(click.style(line + "  (stored)", bold=True) if row.stored else line)
