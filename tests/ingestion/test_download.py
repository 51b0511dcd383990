"""Downloads from a server on this machine: resumed, checked, refused."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.ingestion import download
from stages.running.terminal import UserError

CONTENT = bytes(range(256)) * 2000
HASH = "md5:" + hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT with Range support. The next answers are cut off after `cuts` bytes, and `damage` changes what
    is sent that many times."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts: list[int] = []
        self.damage = 0
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/files/data.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers["Range"])
        if self.path != "/files/data.gz":
            self.send_error(404)
            return
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        body = CONTENT[start:]
        if self.server.damage:
            self.server.damage -= 1
            body = bytes(len(body))
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[Server]:
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "RETRY_SECONDS", 0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server):
    path = download.fetch(server.url, HASH, "set/data.gz")
    assert path.read_bytes() == CONTENT
    assert download.fetch(server.url, HASH, "set/data.gz") == path
    assert server.ranges == [None]
    assert [file.name for file in path.parent.iterdir()] == ["data.gz"]


def test_a_cut_connection_is_resumed_where_it_ended(server):
    server.cuts = [100_000, 200_000]
    assert download.fetch(server.url, HASH, "set/data.gz").read_bytes() == CONTENT
    kept = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in server.ranges[1:] if asked]
    assert len(kept) == 2
    assert 100_000 - 2**16 < kept[0] <= 100_000 < kept[1] <= 300_000


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server):
    server.cuts = [2**16] * download.MAX_ATTEMPTS
    with pytest.raises(UserError, match=r"the connection failed or was cut off.*196,608 bytes that arrived are kept"):
        download.fetch(server.url, HASH, "set/data.gz")
    assert download.fetch(server.url, HASH, "set/data.gz").read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=196608-"


def test_a_damaged_file_is_fetched_again(server):
    server.damage = 1
    assert download.fetch(server.url, HASH, "set/data.gz").read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_file_that_stays_damaged_says_what_to_do_instead(server, tmp_path):
    server.damage = 99
    with pytest.raises(UserError) as caught:
        download.fetch(server.url, HASH, "set/data.gz")
    for hint in (server.url, "does not have the expected hash", HASH, str(tmp_path / "cache" / "set" / "data.gz")):
        assert hint in str(caught.value)
    assert len(server.ranges) == 2
    assert "\n" not in str(caught.value)


def test_a_stale_partial_file_is_replaced(server, tmp_path):
    partial = tmp_path / "cache" / "set" / "data.gz.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(len(CONTENT) + 5))
    assert download.fetch(server.url, HASH, "set/data.gz").read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_used(server, tmp_path):
    path = tmp_path / "cache" / "set" / "data.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert download.fetch("http://127.0.0.1:1/gone", HASH, "set/data.gz") == path


def test_errors_of_the_server_and_no_server_say_so(server):
    with pytest.raises(UserError, match="the server answered 404 Not Found"):
        download.fetch(server.url + ".missing", HASH, "set/data.gz")
    with pytest.raises(UserError, match=r"the connection failed.*put it at .*ingest\.source to a folder"):
        download.fetch("http://127.0.0.1:1/data.gz", HASH, "set/data.gz")


def test_the_cache_is_outside_the_repository(monkeypatch):
    monkeypatch.delenv("VISIONLOOP_CACHE", raising=False)
    assert not download.cache_folder().is_relative_to(Path.cwd())
