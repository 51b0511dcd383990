"""Changes of inputs between two states: params, data pointers, package versions and code."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from ops.pages.document import Block, Code, Link, Paragraph, Section, Strong, Table, Text
from ops.project.revisions import Commit, WorkTree, changed_files

NOTHING = "none"
SHOWN_FILES = 12
SHOWN_PARAMS = 3  # in the headline


class Change(NamedTuple):
    """A key of a params file, and its value before and after; None where there was none."""

    file: str
    key: str
    before: str | None
    after: str | None


class Inputs(NamedTuple):
    """All changed inputs."""

    params: list[Change]  # of params.yaml
    others: list[Change]  # of versions.yaml and the pointers to data
    code: list[str]  # paths of files


def changed_inputs(base: Commit, now: WorkTree) -> Inputs:
    """The inputs that differ between two states of the project."""
    others = _differences("versions.yaml", _values(base.text("versions.yaml")), _values(now.text("versions.yaml")))
    for path in changed_files(base, "data/raw", ":!data/raw/.gitignore"):
        before, after = _entry(path, base.text(path)), _entry(path, now.text(path))
        if before != after:
            others.append(Change(path, "", before, after))
    code = changed_files(base, "stages", "dvc.yaml")
    params = _differences("params.yaml", _values(base.text("params.yaml")), _values(now.text("params.yaml")))
    return Inputs(params, others, code)


def section(changed: Inputs) -> Section | None:
    """The section of the report; None when nothing changed."""
    blocks: list[Block] = []
    if changed.params or changed.others:
        rows: list[list[Text]] = [
            [
                Code(change.key) if change.file == "params.yaml" else [Code(change.file), f" {change.key}".rstrip()],
                change.before or NOTHING,
                change.after or NOTHING,
            ]
            for change in (*changed.params, *changed.others)
        ]
        blocks.append(Table(("key", "base", "this"), rows, "lll"))
    if changed.code:
        pieces: list[str | Strong | Code | Link] = ["Code: "]
        for path in changed.code[:SHOWN_FILES]:
            pieces += [Code(path), " "]
        more = len(changed.code) - SHOWN_FILES
        blocks.append(Paragraph([*pieces, f"and {more} more" if more > 0 else ""]))
    return Section("Changes", blocks) if blocks else None


def sentence(changed: Inputs, with_data: bool = True) -> str:
    """For the headline: the first changes, and the number of others; empty when nothing changed. with_data: whether to
    name entries of data/raw too."""
    parts = [f"{change.key} {change.before or NOTHING} -> {change.after or NOTHING}" for change in changed.params]
    named, rest = parts[:SHOWN_PARAMS], parts[SHOWN_PARAMS:]
    named += [f"{len(rest)} more params"] if rest else []
    versions = sum(change.file == "versions.yaml" for change in changed.others)
    named += [f"{versions} package version{'s' if versions > 1 else ''}"] if versions else []
    named += [f"{len(changed.code)} file{'s' if len(changed.code) > 1 else ''} of code"] if changed.code else []
    pointers = [change.file for change in changed.others if change.file != "versions.yaml"] if with_data else []
    return ", ".join([*pointers, *named])


def _values(text: str | None) -> dict[str, str]:
    """The values of a params file by their dotted keys."""
    document = yaml.safe_load(text or "")
    return dict(_flat(document, "")) if isinstance(document, dict) else {}


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _differences(file: str, before: dict[str, str], after: dict[str, str]) -> list[Change]:
    keys = [*after, *(key for key in before if key not in after)]
    return [Change(file, k, before.get(k), after.get(k)) for k in keys if before.get(k) != after.get(k)]


def _entry(path: str, text: str | None) -> str | None:
    """A short description of an entry of data/raw: the data that a `.dvc` file points at, or a card."""
    if text is None:
        return None
    if not path.endswith(".dvc"):
        return f"card, {len(text.splitlines())} lines"
    output = yaml.safe_load(text)["outs"][0]
    files = f"{output['nfiles']:,} files, " if "nfiles" in output else ""
    return f"{files}{output.get('size', 0) / 2**20:,.1f} MiB, md5 {output['md5'][:7]}"
