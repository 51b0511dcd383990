"""ops.credentials against an issuer of tokens on this machine."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ops.project import credentials
from stages.running.terminal import UserError

NAMES = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_FEDERATED_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS")


class Issuer(BaseHTTPRequestHandler):
    """Gives numbered tokens, as GitHub's address for them does."""

    issued = 0

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        allowed = self.headers["Authorization"] == "Bearer request-token"
        Issuer.issued += 1
        body = json.dumps({"value": f"{asked['audience'][0]} {asked['api-version'][0]} {Issuer.issued}"}).encode()
        self.send_response(200 if allowed else 403)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def in_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    server = HTTPServer(("127.0.0.1", 0), Issuer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"http://127.0.0.1:{server.server_port}/token?api-version=2")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    for name in NAMES:  # so that they are as before after the test
        monkeypatch.setenv(name, "")
    yield tmp_path / "credentials"
    server.shutdown()
    server.server_close()


def test_each_refresh_brings_a_new_token(in_actions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/ci")
    credentials.refresh()
    first = (in_actions / "aws").read_text()
    credentials.refresh()
    second = (in_actions / "aws").read_text()
    assert first.startswith("sts.amazonaws.com 2 ")
    assert first != second
    assert (in_actions / "aws").stat().st_mode & 0o077 == 0


def test_googles_library_reads_what_is_written_for_it(in_actions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "GCP_WORKLOAD_IDENTITY_PROVIDER", "projects/1/locations/global/workloadIdentityPools/p/providers/g"
    )
    monkeypatch.setenv("GCP_SERVICE_ACCOUNT", "ci@project.iam.gserviceaccount.com")
    credentials.refresh()
    written = json.loads((in_actions / "gcp.json").read_text())
    assert written["audience"] == "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/g"
    assert Path(written["credential_source"]["file"]).read_text().startswith(f"https:{written['audience']}")
    identity_pool = pytest.importorskip("google.auth.identity_pool")
    found = identity_pool.Credentials.from_info(written)
    assert found.service_account_email == "ci@project.iam.gserviceaccount.com"


def test_azure_gets_a_token_only_with_both_of_its_names(in_actions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", "client")
    credentials.refresh()
    assert not (in_actions / "azure").exists()
    monkeypatch.setenv("AZURE_TENANT_ID", "tenant")
    credentials.refresh()
    assert (in_actions / "azure").read_text().startswith("api://AzureADTokenExchange")


def test_a_refusal_names_the_permission(in_actions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/ci")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "wrong")
    with pytest.raises(UserError, match="id-token: write"):
        credentials.refresh()


def test_on_a_laptop_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/ci")
    credentials.refresh()
    assert list(tmp_path.iterdir()) == []


def test_a_key_kept_as_a_secret_becomes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
    monkeypatch.setenv("GCP_CREDENTIALS_JSON", '{"type": "service_account"}')
    credentials.refresh()
    assert json.loads((tmp_path / "credentials" / "gcp.json").read_text()) == {"type": "service_account"}
