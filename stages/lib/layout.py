"""From paths to classes and splits: one sub-folder of images per class, optionally inside train/, val/, test/."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stages.lib.decode import EXTENSIONS, Payload
from stages.lib.terminal import UserError

SPLIT_OF = {  # folder names in any case
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
IGNORED = re.compile(r"(^|/)(\.|(__MACOSX|Thumbs\.db|desktop\.ini)(/|$))")  # hidden and system files


class Item(NamedTuple):
    """One image to decode."""

    source: str  # path inside the data set
    split: str | None  # where the data set itself says so
    label: int
    payload: Payload


@dataclass(frozen=True)
class Source:
    """A data set before decoding."""

    classes: list[str]
    items: list[Item]
    left_out: list[tuple[str, str]] = field(default_factory=list)  # (path, reason) of what is no image of a class
    image_size: int | None = None  # what the card says


def arrange(name: str, files: Mapping[str, Payload], folders: Iterable[str] = ()) -> Source:
    """Sorts the files of a data set into classes and splits.

    `files` maps paths with forward slashes to what lies there; `folders` are the paths of folders, also of empty ones.
    Hidden and system files are ignored; a single folder around everything is tolerated. The folders of splits may be
    named in any case, and as in SPLIT_OF.

    Raises UserError when there are fewer than two classes, or one without images.
    """
    paths = sorted(path for path in files if not IGNORED.search(path))
    parent_of = {path: path.rpartition("/")[0] for path in paths}
    parts = {parent: tuple(parent.split("/")) if parent else () for parent in {*parent_of.values()}}
    images = {path for path in paths if _extension(path)[1:] in EXTENSIONS}
    holders = {parts[parent_of[path]] for path in images}
    parents = {*parts.values(), *(tuple(folder.split("/")) for folder in folders if not IGNORED.search(folder))}
    places = {parent[:depth] for parent in parents for depth in range(1, len(parent) + 1)}

    prefix: tuple[str, ...] = ()
    tops = _children(places, prefix)
    if len(tops) == 1 and not _splits_among(tops) and not holders & {(), *((top,) for top in tops)}:
        prefix = (*tops,)
        tops = _children(places, prefix)
    known = _splits_among(tops)
    # A folder `train` full of images is the class of trains; one full of folders is a split.
    direct = sorted(split for split in known if (*prefix, split) in holders)
    if direct and tops == known:
        raise UserError(
            f"{name} has images directly in {direct[0]}/: expected one sub-folder of images per class in it"
        )
    with_splits = bool(known) and not direct
    if with_splits and tops != known:
        unknown = sorted(tops - known)[0]
        raise UserError(f"{name} has a folder `{unknown}` beside `{sorted(known)[0]}`: splits are train, val and test")
    if with_splits and "train" not in {_split_of(top) for top in known}:
        raise UserError(f"{name} has a folder `{sorted(known)[0]}` but no `train`")
    roots = [(*prefix, split) for split in sorted(known)] if with_splits else [prefix]
    class_folders = {(*root, child) for root in roots for child in _children(places, root)}
    depth = len(roots[0]) + 1

    left_out, found = [], []
    for path in paths:
        if len(parts[parent_of[path]]) < depth:
            left_out.append((path, "not inside a class folder"))
        elif path not in images:
            left_out.append((path, f"not an image file ({_extension(path) or 'no extension'})"))
        else:
            found.append(path)
    filled = {parts[parent][:depth] for parent in {parent_of[path] for path in found}}
    _check(name, class_folders, filled, with_splits)
    classes = sorted({_class_name(folder) for folder in class_folders})
    split_and_label = {
        parent: (_split_of(folder[depth - 2]) if with_splits else None, classes.index(_class_name(folder[:depth])))
        for parent, folder in parts.items()
        if len(folder) >= depth
    }
    items = [Item(path, *split_and_label[parent_of[path]], files[path]) for path in found]
    return Source(classes, items, left_out)


def _check(name: str, class_folders: set[tuple[str, ...]], filled: set[tuple[str, ...]], with_splits: bool) -> None:
    expected = "expected one sub-folder of images per class, optionally inside train/, val/ and test/"
    if not filled:
        raise UserError(f"{name} holds no images in class folders: {expected}")
    if empty := sorted("/".join(folder) for folder in class_folders - filled):
        raise UserError(f"{name}: class folder `{empty[0]}` holds no images: add some, or remove the folder")
    classes = {_class_name(folder) for folder in class_folders}
    if len(classes) < 2:
        raise UserError(f"{name} has a single class, `{classes.pop()}`: at least two are needed; {expected}")
    if with_splits:
        trained = {_class_name(folder) for folder in class_folders if _split_of(folder[-2]) == "train"}
        if missing := sorted(classes - trained):
            raise UserError(f"{name}: class `{missing[0]}` has no folder in train/")
    spelling: dict[str, str] = {}
    for each in sorted(classes):
        other = spelling.setdefault(" ".join(each.casefold().split()), each)
        if other != each:
            what = "case" if other.casefold() == each.casefold() else "spaces or case"
            raise UserError(f"{name}: classes `{other}` and `{each}` differ in {what} only: merge or rename them")


def _split_of(folder: str) -> str | None:
    return SPLIT_OF.get(folder.lower())


def _splits_among(folders: set[str]) -> set[str]:
    return {folder for folder in folders if _split_of(folder)}


def _class_name(folder: tuple[str, ...]) -> str:
    return unicodedata.normalize("NFC", folder[-1])  # macOS stores names decomposed


def _children(places: set[tuple[str, ...]], root: tuple[str, ...]) -> set[str]:
    return {place[len(root)] for place in places if len(place) == len(root) + 1 and place[: len(root)] == root}


def _extension(path: str) -> str:
    _, dot, ending = path.rpartition("/")[2].rpartition(".")
    return dot and dot + ending.lower()
