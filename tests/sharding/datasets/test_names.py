import os
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pclkd.sharding.datasets.names import LONGEST_KEY, group_number, printable, sample_key, unprintable

# Any file name that a Linux disk can hold: bytes but for NUL and the slash.
FILE_NAMES = st.binary(min_size=1, max_size=255).map(lambda raw: os.fsdecode(re.sub(rb"[\x00/]", b"?", raw)))


def bytes_of(text: str) -> bytes:
    r"""Read `printable` backwards: `\\` is a backslash and `\xNN` a byte."""
    out, at = b"", 0
    while at < len(text):
        if text.startswith("\\x", at):
            out += bytes.fromhex(text[at + 2 : at + 4])
            at += 4
        elif text[at] == "\\":
            out += b"\\"
            at += 2
        else:
            out += text[at].encode()
            at += 1
    return out


@given(FILE_NAMES)
@example("plain é 中.avi")
@example("caf\udce9\\xe9\n\x1b[31m\x85\u200b.avi")
def test_printable_can_be_read_back_and_shows_no_control_codes(name: str) -> None:
    shown = printable(name)
    assert bytes_of(shown) == os.fsencode(name)
    assert unprintable(shown) == name
    assert shown.isprintable()
    shown.encode()  # no lone surrogates: a terminal and JSON take it


def test_printable_leaves_ordinary_names_alone() -> None:
    assert printable("Archery/v a.b é 中.avi") == "Archery/v a.b é 中.avi"
    assert printable("caf\udce9") == r"caf\xe9"
    assert printable("a\nb") == r"a\x0ab"
    assert printable("a\\xe9") == r"a\\xe9"


@given(st.one_of(FILE_NAMES, st.text(max_size=200).filter(lambda text: not re.search("[\ud800-\udfff]", text))))
def test_keys_are_safe_short_and_stay(name: str) -> None:
    key = sample_key(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", key)
    assert len(key) <= LONGEST_KEY == 100 - len(".mjpeg") - 1
    assert sample_key(key) == key


@given(st.sets(st.text("ab _.é", min_size=1, max_size=6), max_size=40))
def test_different_names_have_different_keys(names: set[str]) -> None:
    assert len({sample_key(name) for name in names}) == len(names)


@given(st.text("ab", min_size=LONGEST_KEY, max_size=LONGEST_KEY + 3), st.sampled_from("ab"))
def test_long_names_that_begin_alike_have_different_keys(name: str, more: str) -> None:
    assert sample_key(name) != sample_key(name + more)


def test_keys_by_hand() -> None:
    assert sample_key("v_Archery_g01_c01") == "v_Archery_g01_c01"
    assert re.fullmatch(r"v_a_b-[0-9a-f]{8}", sample_key("v a.b"))
    assert sample_key("v a.b") == sample_key("v a.b") != sample_key("v_a b")
    assert sample_key("x" * LONGEST_KEY) == "x" * LONGEST_KEY
    assert len(sample_key("x" * 200)) == LONGEST_KEY


@given(st.integers(0, 2**31 - 1))
def test_a_number_is_its_own_group(number: int) -> None:
    assert group_number(str(number)) == number


@given(st.text(min_size=1).filter(lambda text: not re.search("[\ud800-\udfff]", text)))
def test_groups_fit_the_column(name: str) -> None:
    assert 0 <= group_number(name) < 2**31


@pytest.mark.parametrize("name", ["dQw4w9WgXcQ", "April_09", "²", "٣", "99999999999", "caf\udce9"])
def test_groups_are_stable_numbers(name: str) -> None:
    assert group_number(name) == group_number(name) != group_number(name + "x")
    assert 0 <= group_number(name) < 2**31


def test_no_name_is_no_group() -> None:
    assert group_number("") == -1
