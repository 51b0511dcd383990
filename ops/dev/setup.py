"""Installs the packages that this checkout needs on this machine: `python3 -m ops setup`. Needs only uv and Python.

Adds the extra `gpu` where the NVIDIA driver answers, and the extra of each DVC remote (s3, gs, azure, ssh).
"""

import argparse
import configparser
import shutil
import subprocess
import sys
from pathlib import Path

EXTRAS = {"s3": "s3", "gs": "gs", "azure": "azure", "abfs": "azure", "adl": "azure", "ssh": "ssh"}  # by URL scheme


def extras(config: str | Path = ".dvc/config") -> list[str]:
    """The extras of pyproject.toml that this machine and DVC's remotes need."""
    remotes = configparser.ConfigParser()
    remotes.read(config)
    schemes = {remotes[section].get("url", "").split("://")[0] for section in remotes.sections()}
    found = {EXTRAS[scheme] for scheme in schemes if scheme in EXTRAS}
    if (
        shutil.which("nvidia-smi")
        and subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
    ):
        found.add("gpu")
    return sorted(found)


def main() -> None:
    argparse.ArgumentParser(
        prog="visionloop setup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    command = ["uv", "sync", *(word for extra in extras() for word in ("--extra", extra))]
    print(" ".join(command), flush=True)
    sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
