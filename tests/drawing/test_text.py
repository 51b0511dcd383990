"""Texts from data as they can be shown."""

import pytest

from stages.drawing.text import printable, shortened, shortened_in_the_middle


def test_what_cannot_be_seen_is_replaced_character_by_character():
    assert printable("a\x00b\n\u202ec d") == "a\ufffdb\ufffd\ufffdc d"
    assert printable("cats & dogs $x$ é 猫") == "cats & dogs $x$ é 猫"


@pytest.mark.parametrize(
    ("length", "expected"), [(1, "…"), (4, "abc…"), (9, "abcdefgh…"), (10, "abcdefghij"), (11, "abcdefghij")]
)
def test_the_end_is_cut_off_at_the_length(length, expected):
    assert shortened("abcdefghij", length) == expected


@pytest.mark.parametrize(("length", "expected"), [(4, "ab…j"), (6, "abc…ij"), (9, "abcd…hij"), (10, "abcdefghij")])
def test_the_middle_is_cut_out_and_both_ends_stay(length, expected):
    assert shortened_in_the_middle("abcdefghij", length) == expected
