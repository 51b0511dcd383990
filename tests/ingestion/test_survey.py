"""stages.ingestion.survey: sizes and channels that a few images settle for all."""

import numpy as np
import pytest

from stages.ingestion.class_folders import Item
from stages.ingestion.survey import evenly, limited, survey
from stages.running.terminal import UserError


def items(*images, split=None) -> list[Item]:
    return [Item(f"{index}.png", split, index % 2, image) for index, image in enumerate(images)]


def grey(height: int, width: int) -> np.ndarray:
    return np.arange(height * width, dtype=np.uint8).reshape(height, width)


def test_evenly_spaced_indices_differ_and_start_at_the_first():
    assert evenly(10, 5) == [0, 2, 4, 6, 8]
    assert evenly(3, 5) == [0, 1, 2]
    assert evenly(0, 5) == []


def test_the_limit_is_of_each_class_and_split():
    train, test = items(*[grey(8, 8)] * 20, split="train"), items(*[grey(8, 8)] * 6, split="test")
    chosen = limited([*train, *test], 4)
    assert len([item for item in chosen if item.split == "train"]) == 8
    assert len([item for item in chosen if item.split == "test"]) == 6
    assert list(limited(train, None)) == train


def test_what_is_left_open_follows_the_images():
    found = survey(items(grey(8, 12), grey(8, 12)), None, None, "pad")
    assert (found.target.size, found.target.channels, found.same_size) == (12, 1, (12, 8))
    assert found.maybe_grey
    assert survey(items(grey(8, 12)), None, None, "crop").target.size == 8


def test_what_is_asked_for_is_kept():
    found = survey(items(grey(8, 12), grey(30, 9)), 16, 3, "pad")
    assert (found.target.size, found.target.channels, found.same_size, found.maybe_grey) == (16, 3, None, False)


def test_a_colour_image_of_equal_channels_counts_as_grey():
    assert survey(items(np.dstack([grey(8, 8)] * 3)), None, None, "pad").target.channels == 1
    assert survey(items(np.dstack([grey(8, 8), grey(8, 8), grey(8, 8).T])), None, None, "pad").target.channels == 3


def test_undecodable_images_are_passed_over():
    assert survey(items(*["damaged"] * 20, grey(9, 9)), None, None, "pad").target.size == 9
    assert survey(items("damaged"), None, None, "pad").same_size is None


def test_sizes_out_of_range_ask_for_a_number():
    with pytest.raises(UserError, match=r"the images are 4 px large: set ingest.image_size, 8 to 1024"):
        survey(items(grey(4, 4)), None, None, "pad")


def test_large_images_are_decoded_few_at_a_time():
    assert survey(items(grey(8, 8)), None, None, "pad").chunk == 2048
    assert survey(items(grey(1024, 1024)), None, None, "pad").chunk == 2
