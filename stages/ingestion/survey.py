"""Looks at a few images before all are decoded, to find the size and number of channels of the data set."""

from collections.abc import Sequence
from itertools import chain
from typing import Literal, NamedTuple

from stages.imaging.decode import Extent, Undecodable, decode, grey_if_grey, quiet_decoding, read
from stages.imaging.resize import Target
from stages.ingestion.items import Item, Items
from stages.running.terminal import UserError

SAMPLE = 16  # images
CHUNK_PIXELS = 2**21  # that one worker decodes at a time
LIMITS = (8, 1024)  # of the size, px


class Survey(NamedTuple):
    target: Target
    same_size: tuple[int, int] | None  # width and height that every image must have; None when they are resized
    example: str  # an image of that size
    maybe_grey: bool  # the channels are a guess: grey until a colour image turns up
    chunk: int  # images to decode at a time

    def in_colour(self) -> "Survey":
        """The same with three channels, which are not a guess."""
        return self._replace(target=self.target._replace(channels=3), maybe_grey=False)

    def check_size(self, source: str, width: int | None, height: int | None) -> None:
        """Raises UserError when this image differs in size from the others and no size is set. Width and height are
        None for an image that cannot be decoded."""
        if self.same_size and width is not None and (width, height) != self.same_size:
            others = "x".join(map(str, self.same_size))
            raise UserError(
                f"the images differ in size ({self.example} is {others}, {source} is {width}x{height} px): "
                f"set ingest.image_size to a number of px, for example 32 or 64"
            )


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` different indices, evenly spaced in range(count)."""
    return [index * count // min(wanted, count) for index in range(min(wanted, count))]


def limited(items: Sequence[Item], limit: int | None) -> Items:
    """At most `limit` items of each class and official split, evenly spaced by path; None takes all."""
    items = Items.of(items)
    if limit is None:
        return items
    return items.take([group[index] for group in items.groups() for index in evenly(len(group), limit)])


def survey(
    items: Sequence[Item], size: int | None, channels: Literal[1, 3] | None, fit: Literal["pad", "crop"]
) -> Survey:
    """Decodes a few images and fills in the settings that are None. Raises UserError when their sizes disagree."""
    sizes: dict[tuple[int, int], str] = {}
    colour = False
    for number, item in enumerate(chain((items[i] for i in evenly(len(items), SAMPLE)), items)):
        if number >= SAMPLE and sizes:
            break
        try:
            with quiet_decoding():
                pixels = decode(read(item.payload))[0] if isinstance(item.payload, Extent) else item.payload
        except Undecodable:
            continue
        if isinstance(pixels, str):
            continue
        pixels = grey_if_grey(pixels)
        colour |= pixels.ndim == 3
        sizes.setdefault((pixels.shape[1], pixels.shape[0]), item.source)
    same_size = next(iter(sizes)) if size is None and sizes else None
    if same_size:
        size = max(same_size) if fit == "pad" else min(same_size)
    edge = size or LIMITS[0]  # when no image can be decoded: all of them will be listed as bad
    largest = max([edge * edge, *(width * height for width, height in sizes)])
    found = Survey(
        Target(edge, channels or (3 if colour else 1), fit),
        same_size,
        sizes[same_size] if same_size else "",
        channels is None and not colour,
        min(2048, max(1, CHUNK_PIXELS // largest)),
    )
    for other, source in sizes.items():
        found.check_size(source, *other)
    if not LIMITS[0] <= edge <= LIMITS[1]:
        raise UserError(f"the images are {edge} px large: set ingest.image_size, {LIMITS[0]} to {LIMITS[1]}")
    return found
