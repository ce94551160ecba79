"""How the files of shards are named: for those that make them, and those that come across them."""

import re

__all__ = ["SHARD_FILE"]

SHARD_FILE = re.compile(r"shard-\d{6}\.(tar|idx)(\.part)?")
