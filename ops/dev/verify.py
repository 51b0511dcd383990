"""Checks that the committed results are reproducible: `visionloop verify [STAGE ...]`.

Runs the pipeline of HEAD in a temporary clone, with no cache, no run-cache and no tracking, and compares every output
with dvc.lock. The exit code is 0 only when all agree. Equal bytes are promised for equal fingerprints (processor
features, threads, precision, GPU, package versions); on a machine whose fingerprint differs from the one in
fingerprint.yaml, metrics are compared with the spread of five seeds instead, and the table states it.

`--record` runs the five seeds and commits fingerprint.yaml.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ops.pages.terminal import aligned

RECORD = Path("fingerprint.yaml")
SEEDS = range(5)


@contextmanager
def reproduced(stages: Sequence[str], seed: int | None = None) -> Iterator[Path]:
    """A clone of HEAD in which `stages` (all when empty) and the stages before them ran from scratch; `seed` replaces
    the seeds of the classifier and the generator."""
    with tempfile.TemporaryDirectory(prefix="verify-") as name:
        clone = Path(name) / "clone"
        _run("git", "clone", "--quiet", ".", str(clone))
        params = yaml.safe_load((clone / "params.yaml").read_text(encoding="utf-8"))
        raw = Path("data/raw") / f"{params['ingest']['source']}.dvc"
        if (clone / raw).exists():  # only the user's own data cannot be reproduced
            cache = subprocess.run(["dvc", "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip()
            _run("dvc", "cache", "dir", "--local", str(Path(cache).resolve()), cwd=clone)
            _run("dvc", "checkout", "--quiet", str(raw), cwd=clone)
            _run("dvc", "cache", "dir", "--local", str(clone / ".dvc" / "cache"), cwd=clone)
        if seed is not None:
            text = (clone / "params.yaml").read_text(encoding="utf-8")
            document = yaml.safe_load(text) | {}
            document["cnn"]["seed"] = document["gan"]["seed"] = seed
            (clone / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        _run("dvc", "repro", "--force", "--no-run-cache", *stages, cwd=clone)
        yield clone


def compare(clone: Path) -> list[tuple[str, str, str]]:
    """Stage, output and `same` or the first difference, for every output of the stages that ran in the clone."""
    recorded, new = (yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8")) for root in (Path(), clone))
    rows = []
    for stage in _executed(clone):
        before = {out["path"]: out["md5"] for out in recorded["stages"].get(stage, {}).get("outs", [])}
        for out in new["stages"][stage]["outs"]:
            path, md5 = out["path"], out["md5"]
            if before.get(path) == md5:
                rows.append((stage, path, "same"))
            elif path not in before:
                rows.append((stage, path, "not in dvc.lock"))
            else:
                rows.append((stage, path, _difference(clone, path, before[path])))
    return rows


def compare_metrics(clone: Path, spread: dict[str, list[float]]) -> list[tuple[str, str, str]]:
    """Stage, metric and `within`, or the value and the recorded range of the five seeds that it lies outside of."""
    rows, executed = [], _executed(clone)
    for name, value in read_metrics(clone).items():
        stage, _, metric = name.partition(":")
        if stage not in executed:  # its metrics are the committed ones
            continue
        if name not in spread:
            rows.append((stage, metric, f"not in {RECORD}: run `uv run visionloop verify --record`"))
            continue
        low, high = min(spread[name]), max(spread[name])
        margin = max(high - low, 0.01 * abs(high))
        inside = low - margin <= value <= high + margin
        rows.append((stage, metric, "within" if inside else f"{value:.6g}, five seeds gave {low:.6g} to {high:.6g}"))
    return rows


def read_metrics(root: Path) -> dict[str, float]:
    """All values of the metrics files, by `stage:group.name`."""
    return {
        f"{path.parent.name}:{group}.{name}": value
        for path in sorted(root.glob("data/*/metrics.json"))
        for group, values in json.loads(path.read_text(encoding="utf-8")).items()
        for name, value in values.items()
    }


def _executed(clone: Path) -> list[str]:
    """The stages whose outputs are in the clone, in dvc.yaml's order."""
    lock = yaml.safe_load((clone / "dvc.lock").read_text(encoding="utf-8"))
    stages = yaml.safe_load((clone / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return [s for s in stages if s in lock["stages"] and (clone / lock["stages"][s]["outs"][0]["path"]).exists()]


def _difference(clone: Path, path: str, md5: str) -> str:
    """A readable description of the first difference between the recorded output and the new one."""
    if md5.endswith(".dir"):
        listing = _cached(md5)
        if not listing:
            return "different; the recorded one is not in the cache (run `dvc pull`)"
        for entry in json.loads(listing.read_text(encoding="utf-8")):
            new = clone / path / entry["relpath"]
            if not new.exists():
                return f"{entry['relpath']} is missing"
            if _md5(new) != entry["md5"]:
                return f"{entry['relpath']}: {_file_difference(_cached(entry['md5']), new)}"
        return "more files than recorded"
    recorded = Path(path) if Path(path).exists() and _md5(Path(path)) == md5 else _cached(md5)
    return _file_difference(recorded, clone / path)


def _file_difference(recorded: Path | None, new: Path) -> str:
    if recorded is None:
        return "different; the recorded one is not in the cache (run `dvc pull`)"
    if new.suffix == ".json":
        old_values, new_values = (json.loads(p.read_text(encoding="utf-8")) for p in (recorded, new))
        return _first_json_difference(old_values, new_values) or "only the layout differs"
    if new.suffix == ".csv":
        with recorded.open(encoding="utf-8") as a, new.open(encoding="utf-8") as b:
            for line, (old_row, new_row) in enumerate(zip(csv.reader(a), csv.reader(b), strict=False), start=1):
                if old_row != new_row:
                    return f"line {line}: {','.join(old_row)} is now {','.join(new_row)}"
        return "one has more lines"
    if new.suffix == ".keras":
        return _weight_difference(recorded, new)
    if new.suffix == ".npy":
        import numpy as np

        old_array, new_array = (np.load(p, mmap_mode="r", allow_pickle=False) for p in (recorded, new))
        if old_array.shape != new_array.shape:
            return f"shape {old_array.shape} is now {new_array.shape}"
        return f"{int(np.sum(old_array != new_array))} of {old_array.size} values differ"
    before, after = recorded.stat().st_size, new.stat().st_size
    return f"{before} bytes are now {after}" if before != after else f"{after} bytes, with other content"


def _first_json_difference(old: Any, new: Any, where: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if found := _first_json_difference(old.get(key), new.get(key), f"{where}.{key}".strip(".")):
                return found
        return ""
    return "" if old == new else f"{where}: {old} is now {new}"


def _weight_difference(recorded: Path, new: Path) -> str:
    import numpy as np

    from stages.training.network_files import load_network

    before, after = ({w.path: w.numpy() for w in load_network(path).weights} for path in (recorded, new))
    if {name: w.shape for name, w in before.items()} != {name: w.shape for name, w in after.items()}:
        return "the networks have different layers"
    gaps = {name: float(np.max(np.abs(before[name] - after[name]), initial=0.0)) for name in before}
    name = max(gaps, key=lambda key: gaps[key])
    if not gaps[name]:
        return "the weights agree, the rest of the file differs"
    return f"largest weight difference {gaps[name]:.3g}, in {name}"


def _cached(md5: str) -> Path | None:
    path = Path(".dvc/cache/files/md5") / md5[:2] / md5[2:]
    return path if path.exists() else None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _run(*command: str, cwd: Path | None = None) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    done = subprocess.run(command, cwd=cwd, env=environment | {"VISIONLOOP_TRACKING": "off"}, check=False)
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed with exit code {done.returncode}")


def record() -> None:
    """Runs the pipeline with five seeds and commits the fingerprint of this machine with the resulting metrics."""
    from stages.training.fingerprint import fingerprint

    spread: dict[str, list[float]] = {}
    for seed in SEEDS:
        print(f"seed {seed} of {list(SEEDS)}", flush=True)
        with reproduced([], seed) as clone:
            for name, value in read_metrics(clone).items():
                spread.setdefault(name, []).append(value)
    text = "# The machine that made dvc.lock, and the metrics of five seeds on it: `visionloop verify --record`.\n"
    RECORD.write_text(text + yaml.safe_dump({"fingerprint": fingerprint(), "metrics": spread}), encoding="utf-8")
    _run("git", "add", str(RECORD))
    _run("git", "commit", "--quiet", "-m", "Record the fingerprint of this machine", "--", str(RECORD))


def main() -> None:
    parser = argparse.ArgumentParser(prog="visionloop verify", description=__doc__.splitlines()[0])
    parser.add_argument("stages", nargs="*", help="stages to verify, with the stages before them; all by default")
    parser.add_argument("--record", action="store_true", help="run five seeds and commit fingerprint.yaml")
    arguments = parser.parse_args()
    if shutil.which("dvc") is None:
        raise SystemExit("dvc not found: run `uv run visionloop verify`")
    if arguments.record:
        record()
        return
    from stages.training.fingerprint import fingerprint

    recorded = yaml.safe_load(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else None
    with reproduced(arguments.stages) as clone:
        if recorded is None or recorded["fingerprint"] == fingerprint():
            rows, good = compare(clone), "same"
            head = ("stage", "output", "bytes")
        else:
            rows, good = compare_metrics(clone, recorded["metrics"]), "within"
            head = ("stage", "metric", "compared with the spread of five seeds: this machine's fingerprint differs")
    print("", *aligned([head, *rows], "lll"), sep="\n")
    bad = sum(row[2] != good for row in rows)
    print(f"\n{len(rows) - bad} of {len(rows)} agree")
    sys.exit(1 if bad or not rows else 0)


if __name__ == "__main__":
    main()
