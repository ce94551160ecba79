"""Names from the outside world made safe: for JSON, for tar readers, and as numbers.

All of them depend on the one name alone, so that adding videos changes nothing about those that were there.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

__all__ = [
    "LONGEST_KEY",
    "folder_group",
    "group_number",
    "is_number",
    "is_sample_key",
    "path_key",
    "printable",
    "sample_key",
    "ucf_group",
    "unprintable",
]

LONGEST_KEY = 93  # a USTAR name holds 100 bytes, ".mjpeg" takes 6 of them
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|\\)")
_UCF_GROUP = re.compile(r"_g(\d{1,9})_c\d+$", re.IGNORECASE)
_MOST_DIGITS = 18
_LARGEST_GROUP = 2**31 - 1  # groups are stored as int32


def printable(name: str) -> str:
    r"""Return a file name as text for people and JSON; different names stay different.

    Names may hold bytes that are no UTF-8 (as surrogates, the way Python lists them), line ends and codes that steer a
    terminal. Such bytes become `\xNN` and a backslash becomes `\\`; all other names stay as they are.
    """
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(_visible(letter) for letter in name)


def unprintable(text: str) -> str:
    """Return the file name that `printable` made `text` of."""
    if "\\" not in text:
        return text
    plain = text.encode()
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\", plain))


def _visible(letter: str) -> str:
    if letter == "\\":
        return "\\\\"
    if letter.isprintable():
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def sample_key(name: str) -> str:
    """Return the name of a sample in the shards: letters, digits, `_` and `-`, at most 93 of them.

    A dot would end the key for every tar reader. Where a character must be replaced (by `_`) or the name cut, eight hex
    digits of the SHA-256 of the whole name are added, so that `a b` and `a_b` do not meet.
    """
    safe = _UNSAFE.sub("_", name)
    if safe == name and len(name) <= LONGEST_KEY:
        return name
    return f"{safe[: LONGEST_KEY - 9]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def is_sample_key(name: str) -> bool:
    """Tell whether `name` can have come from `sample_key`."""
    return 0 < len(name) <= LONGEST_KEY and _UNSAFE.search(name) is None


def path_key(name: str) -> str:
    """Return the key of `folder/sub/file.avi`, whose folders are needed to tell files of one name apart.

    A name that ends in "/" is that of a folder of frames, and has no suffix.
    """
    bare = name.removesuffix("/") if name.endswith("/") else str(PurePosixPath(name).with_suffix(""))
    return sample_key(bare.replace("/", "__"))


def is_number(text: str) -> bool:
    """Tell whether text is a whole number in plain digits, of a length that Python takes."""
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS


def group_number(name: str) -> int:
    """Return a number for a group: a decimal number stands for itself, other names give 31 bits of their SHA-256.

    An empty name is no group: -1.
    """
    if not name:
        return -1
    if is_number(name) and int(name) <= _LARGEST_GROUP:
        return int(name)
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:4], "big") >> 1


def ucf_group(stem: str) -> int:
    """Return the group in a file name as UCF101 has it, 7 of `v_Archery_g07_c02` (without suffix), else -1."""
    match = _UCF_GROUP.search(stem)
    return int(match[1]) if match else -1


def folder_group(folders: Sequence[str], stem: str) -> int:
    """Return the group of a video in these folders below those that mean something; without any, as its name tells."""
    return group_number("/".join(folders)) if folders else ucf_group(stem)
