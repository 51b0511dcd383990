"""What a stage prints for the person who runs it: one progress bar, a short summary, and errors in one sentence.

Output-neutral: nothing here may change a byte below data/.
"""

import errno
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30  # of progress, without a terminal


@dataclass
class Verbosity:
    """What this process prints. silent: only errors, because it is one of several processes that print the same."""

    silent: bool = False


verbosity = Verbosity()


def silence() -> None:
    """From now on this process prints only errors."""
    verbosity.silent = True


class UserError(Exception):
    """Stops a stage with one clear sentence (what was found, what was expected, what to do) and exit code 1."""


class Interrupted(KeyboardInterrupt):
    """SIGTERM or Ctrl-C arrived, and progress is saved; the message states how to resume."""


def run_stage(main: Callable[[], None]) -> None:
    """Runs a stage's `main`; a UserError ends the process with its message instead of a traceback."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"error: the disk is full ({error}): free some space and run `dvc repro` again", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {interrupt}" if str(interrupt) else "interrupted", file=sys.stderr)
        sys.exit(130)


def say(*lines: str) -> None:
    """Prints the lines of a stage's summary."""
    for line in () if verbosity.silent else lines:
        print(f"  {line}", flush=True)


class Progress:
    """A progress bar in a terminal; elsewhere a plain line every SECONDS_BETWEEN_LINES.

    `with Progress("decode", total=n, unit="images") as bar: bar.advance(k); bar.note("loss 0.31")`
    """

    def __init__(self, label: str, total: int, unit: str = "it", done: int = 0):
        self.label, self.total, self.unit = label, total, unit
        self.first = self.done = done
        self.text = ""
        self.interactive = sys.stderr.isatty() and not verbosity.silent
        self.started = self.printed = time.monotonic()
        self.bar = tqdm(
            total=total, desc=f"  {label}", unit=f" {unit}", leave=False, initial=done, disable=not self.interactive
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def note(self, text: str) -> None:
        """Shows `text` after the bar."""
        self.text = text
        self.bar.set_postfix_str(text, refresh=False)

    def advance(self, count: int = 1) -> None:
        """Adds `count` to the units that are done."""
        self.done += count
        self.bar.update(count)
        now = time.monotonic()
        if not self.interactive and not verbosity.silent and now - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = now
            rate = (self.done - self.first) / (now - self.started)
            tail = f", {self.text}" if self.text else ""
            print(f"  {self.label}: {self.done}/{self.total} {self.unit}, {rate:.0f}/s{tail}", flush=True)
