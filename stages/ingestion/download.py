"""Downloads with pooch: cached, checked against their hash, and resumed where an earlier attempt was cut off."""

import os
import time
from pathlib import Path
from typing import Any

from stages.running.terminal import Progress, UserError

MAX_ATTEMPTS = 3  # of a download that is cut off; each resumes where the previous one ended
TIMEOUT = (10, 30)  # seconds to connect, and to wait for the next byte
RETRY_SECONDS = 1.0  # before the next attempt


def cache_folder() -> Path:
    """Where downloads are kept: VISIONLOOP_CACHE, or the user's cache folder."""
    import pooch

    return Path(os.environ.get("VISIONLOOP_CACHE") or pooch.os_cache("visionloop"))


def fetch(url: str, known_hash: str, name: str) -> Path:
    """Returns the path of the file at `url`, from the cache when it is there.

    `known_hash` is `md5:...` or `sha256:...`; `name` is the path inside the cache folder. A file that arrives with
    another hash is fetched once more from the start.

    Raises UserError, which names the alternatives.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    path = cache_folder() / name
    for last in (False, True):
        try:
            pooch.retrieve(url, known_hash, path.name, path.parent, downloader=_Resuming(path))
            return path
        except requests.RequestException as error:
            raise UserError(_failure(url, path, known_hash, _reason(error))) from None
        except OSError as error:
            raise UserError(_failure(url, path, known_hash, str(error.strerror or error))) from None
        except ValueError:  # another hash
            if last:
                reason = "the file that arrives does not have the expected hash"
                raise UserError(_failure(url, path, known_hash, reason)) from None
    raise AssertionError("unreachable")


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}".rstrip()
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    return "the connection failed or was cut off"


def _failure(url: str, path: Path, known_hash: str, reason: str) -> str:
    partial = _partial(path)
    kept = (
        f" (the {partial.stat().st_size:,} bytes that arrived are kept)"
        if partial.exists() and partial.stat().st_size
        else ""
    )
    return (
        f"{url} could not be downloaded: {reason}; try again later{kept}, or fetch it elsewhere and put it at {path} "
        f"({known_hash}), or set ingest.source to a folder of your own images in data/raw"
    )


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


class _Resuming:
    """A pooch downloader that keeps the bytes that arrived next to `path` and requests only the rest (HTTP Range)."""

    def __init__(self, path: Path):
        self.path, self.partial = path, _partial(path)

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        import requests

        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                self._continue(url)
                break
            except requests.HTTPError:
                raise
            except requests.RequestException:
                if attempt == MAX_ATTEMPTS:
                    raise
                time.sleep(RETRY_SECONDS)
        self.partial.replace(output_file)

    def _continue(self, url: str) -> None:
        import requests

        received = self.partial.stat().st_size if self.partial.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={received}-"} if received else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416:  # no bytes are left: the hash shows whether the file is right
                return
            response.raise_for_status()
            resumed = response.status_code == 206
            if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {received}-"):
                raise requests.ConnectionError("the server sent another range than requested")
            rest = int(response.headers.get("Content-Length", 0))
            with (
                self.partial.open("ab" if resumed else "wb") as file,
                Progress(f"download {self.path.name}", rest, "bytes") as bar,
            ):
                for piece in response.iter_content(2**16):
                    file.write(piece)
                    bar.advance(len(piece))
                if rest and bar.done < rest:
                    raise requests.ConnectionError("the connection was cut off")
