"""The containers of video that are read, and the suffixes that fit them."""

__all__ = ["CONTAINERS", "STREAMS", "VIDEO_SUFFIXES"]

CONTAINERS = {
    "avi": "avi divx xvid",
    "mov": "mp4 m4v mov 3gp 3g2 qt f4v",
    "matroska": "mkv webm",
    "mpegts": "ts m2ts mts m2t tod",
    "mpeg": "mpg mpeg mpe vob m2p mod tod",
    "asf": "wmv asf",
    "flv": "flv f4v",
    "ogg": "ogv ogg ogm",
    "gif": "gif",
    "rm": "rm rmvb",
    "mxf": "mxf",
    "nut": "nut",
    "wtv": "wtv",
    "ivf": "ivf",
    "yuv4mpegpipe": "y4m",
}
"""Suffixes that fit a container, by the first of FFmpeg's names for it: all the containers that are read."""
STREAMS = {
    "dv": "dv",
    "m4v": "m4v",
    "mpegvideo": "mpg mpeg mpe m2v m1v",
    "h264": "264 h264",
    "hevc": "265 h265 hevc",
    "mjpeg": "mjpeg mjpg",
}
"""Streams without a container. What is left of a damaged file looks like one, so the suffix must say so too."""
VIDEO_SUFFIXES = frozenset(f".{name}" for names in (CONTAINERS | STREAMS).values() for name in names.split())
"""What videos are named like, in lower case. What a file is, its contents decide when it is its turn."""
