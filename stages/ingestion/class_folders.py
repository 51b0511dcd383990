"""Classes and splits from paths: one sub-folder of images per class, optionally inside train/, val/, test/."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stages.imaging.decode import EXTENSIONS, Payload
from stages.ingestion.columns import Column
from stages.ingestion.items import ITEMS_AT_A_TIME, SPLITS, Files, Item, ItemColumns
from stages.running.terminal import UserError

SPLIT_OF = {  # folder names in any case
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
# Of a file: its position in Files, and the index of its folder.
LOCATION = np.dtype([("position", "i8"), ("folder", "i4"), ("is_image", "?")])
IGNORED = re.compile(r"(^|/)(\.|(__MACOSX|Thumbs\.db|desktop\.ini)(/|$))")  # hidden and system files


@dataclass(frozen=True)
class Source:
    """A data set before decoding."""

    classes: list[str]
    items: Sequence[Item]
    left_out: list[tuple[str, str]] = field(default_factory=list)  # (path, reason) of all other files
    image_size: int | None = None  # px, from the card


def arrange(name: str, files: Files | Mapping[str, Payload], folders: Iterable[str] = ()) -> Source:
    """Sorts the files of a data set into classes and splits.

    `files` maps paths with forward slashes to payloads; `folders` are the paths of folders, including empty ones.
    Hidden and system files are ignored; a single folder around everything is tolerated. The folders of splits have a
    name in SPLIT_OF, in any case.

    Raises UserError when there are fewer than two classes, or one without images.
    """
    files = files if isinstance(files, Files) else Files.of(files)
    ids, with_images, locations = _sort(files)
    parts = [tuple(parent.split("/")) if parent else () for parent in ids]
    holding_images = {parts[parent] for parent in with_images}
    parents = {*parts, *(tuple(folder.split("/")) for folder in folders if not IGNORED.search(folder))}
    paths = {parent[:depth] for parent in parents for depth in range(1, len(parent) + 1)}

    prefix: tuple[str, ...] = ()
    tops = _children(paths, prefix)
    if len(tops) == 1 and not _splits_among(tops) and not holding_images & {(), *((top,) for top in tops)}:
        prefix = (*tops,)
        tops = _children(paths, prefix)
    splits_found = _splits_among(tops)
    # A folder `train` full of images is the class of trains; one full of folders is a split.
    direct = sorted(split for split in splits_found if (*prefix, split) in holding_images)
    if direct and tops == splits_found:
        raise UserError(
            f"{name} has images directly in {direct[0]}/: expected one sub-folder of images per class in it"
        )
    with_splits = bool(splits_found) and not direct
    if with_splits and tops != splits_found:
        other, split = min(tops - splits_found), min(splits_found)
        raise UserError(f"{name} has a folder `{other}` next to `{split}`: splits are train, val and test")
    if with_splits and "train" not in {_split_of(top) for top in splits_found}:
        raise UserError(f"{name} has a folder `{min(splits_found)}` but no `train`")
    roots = [(*prefix, split) for split in sorted(splits_found)] if with_splits else [prefix]
    class_folders = {(*root, child) for root in roots for child in _children(paths, root)}
    depth = len(roots[0]) + 1

    in_class = np.array([len(folder) >= depth for folder in parts], bool)
    filled = {parts[parent][:depth] for parent in with_images if in_class[parent]}
    _check(name, class_folders, filled, with_splits)
    classes = sorted({_class_name(folder) for folder in class_folders})
    splits, labels = np.zeros(len(parts), np.int8), np.zeros(len(parts), np.int32)
    for parent, folder in enumerate(parts):
        if len(folder) >= depth:
            splits[parent] = SPLITS.index(_split_of(folder[depth - 2]) if with_splits else None)
            labels[parent] = classes.index(_class_name(folder[:depth]))
    items, left_out = ItemColumns(), list[tuple[str, str]]()
    for start in range(0, len(locations), ITEMS_AT_A_TIME):
        part = locations[start : start + ITEMS_AT_A_TIME]
        chosen = in_class[part["folder"]] & part["is_image"]
        images, others = part[chosen], part[~chosen]
        items.add(images["position"], splits[images["folder"]], labels[images["folder"]])
        for path, inside in zip(files.names(others["position"]).to_pylist(), in_class[others["folder"]], strict=True):
            extension = _extension(path) or "no extension"
            left_out.append((path, f"not an image file ({extension})" if inside else "not inside a class folder"))
    return Source(classes, items.items(files), left_out)


def _sort(files: Files) -> tuple[list[str], set[int], np.ndarray]:
    """Returns the folders that hold files, the indices of the folders that hold images, and the LOCATION of each file
    that is not ignored, by path."""
    order = files.order()
    folders: dict[str, int] = {}
    ignored, with_images = set[str](), set[int]()  # folders
    locations = Column(LOCATION)
    for start in range(0, len(order), ITEMS_AT_A_TIME):
        positions, kept = order[start : start + ITEMS_AT_A_TIME], []
        for position, path in zip(positions.tolist(), files.names(positions).to_pylist(), strict=True):
            parent, _, last = path.rpartition("/")
            if parent not in folders and parent not in ignored and IGNORED.search(parent):
                ignored.add(parent)
            if parent not in ignored and not IGNORED.search(last):
                folder, is_image = folders.setdefault(parent, len(folders)), _extension(path)[1:] in EXTENSIONS
                kept.append((position, folder, is_image))
                if is_image:
                    with_images.add(folder)
        locations.extend(np.array(kept, LOCATION))
    return list(folders), with_images, locations.view()


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
            difference = "case" if other.casefold() == each.casefold() else "spaces or case"
            raise UserError(f"{name}: classes `{other}` and `{each}` differ in {difference} only: merge or rename them")


def _split_of(folder: str) -> str | None:
    return SPLIT_OF.get(folder.lower())


def _splits_among(folders: set[str]) -> set[str]:
    return {folder for folder in folders if _split_of(folder)}


def _class_name(folder: tuple[str, ...]) -> str:
    return unicodedata.normalize("NFC", folder[-1])  # macOS stores names decomposed


def _children(paths: set[tuple[str, ...]], root: tuple[str, ...]) -> set[str]:
    return {path[len(root)] for path in paths if len(path) == len(root) + 1 and path[: len(root)] == root}


def _extension(path: str) -> str:
    _, dot, ending = path.rpartition("/")[2].rpartition(".")
    return dot and dot + ending.lower()
