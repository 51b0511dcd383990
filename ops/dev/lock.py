"""Writes requirements.lock and versions.yaml from uv's resolution: `visionloop lock`; `--check` only compares.

requirements.lock holds exact versions and hashes without the addresses that uv.lock records. versions.yaml holds the
versions of the packages that shape outputs: stages name theirs as params, so an upgrade re-runs them.
"""

import argparse
import re
import subprocess
from pathlib import Path

from ops.dev.dependencies import SHAPING

HEADER = "# Exact versions and hashes, written by `visionloop lock`. Install: pip install --require-hashes -r FILE\n"
VERSIONS_HEADER = "# Versions of the packages that shape outputs, written by `visionloop lock`.\n"


def resolve() -> dict[Path, str]:
    """The contents that the two files should have. Raises SystemExit unless each package has exactly one version."""
    options = "--quiet --no-header --no-annotate --no-emit-project --format requirements-txt"
    export = ["uv", "export", *options.split()]
    lines = subprocess.run(export, check=True, capture_output=True, text=True).stdout
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", lines, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    versions = VERSIONS_HEADER
    for name in sorted(SHAPING.values()):
        if len(found.get(name, ())) != 1:
            raise SystemExit(
                f"{name} resolves to {sorted(found.get(name, ()))}, expected one version: pin it in pyproject.toml"
            )
        versions += f'{name}: "{found[name].pop()}"\n'
    return {Path("requirements.lock"): HEADER + lines, Path("versions.yaml"): versions}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="visionloop lock", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    stale = [str(p) for p, text in resolve().items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if check:
        if stale:
            raise SystemExit(f"{' and '.join(stale)} out of date: run `uv run visionloop lock`")
        print("requirements.lock and versions.yaml are up to date")
        return
    for path, text in resolve().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
