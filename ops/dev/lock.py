"""Writes requirements.lock and versions.yaml from what uv resolves: `python -m ops lock`; `--check` only compares.

requirements.lock holds exact versions and hashes without the addresses that uv.lock records. versions.yaml holds the
versions of the packages that shape outputs: stages name theirs as params, so an upgrade re-runs them.
"""

import re
import subprocess
import sys
from pathlib import Path

from ops.dev.dependencies import SHAPING

HEADER = "# Exact versions and hashes, written by `python -m ops lock`. Install: pip install --require-hashes -r FILE\n"
VERSIONS_HEADER = "# Versions of the packages that shape outputs, written by `python -m ops lock`.\n"


def resolve() -> dict[Path, str]:
    """The contents that the two files should have. Raises SystemExit when a package has several versions."""
    export = ["uv", "export", "--quiet", "--no-header", "--no-annotate", "--format", "requirements-txt"]
    lines = subprocess.run(export, check=True, capture_output=True, text=True).stdout
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", lines, re.MULTILINE):
        found.setdefault(name, set()).add(version)
    versions = VERSIONS_HEADER
    for name in sorted(SHAPING.values()):
        if len(found.get(name, ())) != 1:
            raise SystemExit(
                f"{name} resolves to {sorted(found.get(name, ()))}: bound it in pyproject.toml to one version"
            )
        versions += f'{name}: "{found[name].pop()}"\n'
    return {Path("requirements.lock"): HEADER + lines, Path("versions.yaml"): versions}


def main() -> None:
    stale = [str(p) for p, text in resolve().items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        if stale:
            raise SystemExit(f"{' and '.join(stale)} do not say what uv resolves: run `uv run python -m ops lock`")
        print("requirements.lock and versions.yaml agree with what uv resolves")
        return
    for path, text in resolve().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
