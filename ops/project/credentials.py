"""Credentials in CI for a DVC remote in S3, Google Cloud Storage or Azure, from GitHub's OpenID Connect.

No secret is stored: GitHub issues a token for the workflow, and the cloud's own library (boto3, google-auth,
azure-identity), which DVC uses, exchanges it. A token expires after some minutes, so `refresh` is called before each
command that talks to the remote: a training may outlast any credentials that were issued at its start.

Environment, for one of the clouds: AWS_ROLE_ARN; AZURE_CLIENT_ID and AZURE_TENANT_ID; GCP_WORKLOAD_IDENTITY_PROVIDER
(projects/N/locations/global/workloadIdentityPools/POOL/providers/NAME) and GCP_SERVICE_ACCOUNT. Stored secrets work as
well: the libraries read AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AZURE_STORAGE_CONNECTION_STRING, by
themselves, and `refresh` writes GCP_CREDENTIALS_JSON (a service account's key) to a file for Google's library.
"""

import json
import os
import tempfile
from pathlib import Path

from stages.running.terminal import UserError


def refresh() -> None:
    """Writes fresh tokens where the clouds' libraries look for them; does nothing outside of GitHub Actions.

    Raises UserError when GitHub issues no token.
    """
    folder = Path(os.environ.get("RUNNER_TEMP", tempfile.gettempdir())) / "credentials"
    if os.environ.get("GCP_CREDENTIALS_JSON"):
        os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = _write(folder / "gcp.json", os.environ["GCP_CREDENTIALS_JSON"])
    if "ACTIONS_ID_TOKEN_REQUEST_URL" not in os.environ:
        return
    if os.environ.get("AWS_ROLE_ARN"):
        os.environ["AWS_WEB_IDENTITY_TOKEN_FILE"] = _write_token(folder / "aws", "sts.amazonaws.com")
    if os.environ.get("AZURE_CLIENT_ID") and os.environ.get("AZURE_TENANT_ID"):
        os.environ["AZURE_FEDERATED_TOKEN_FILE"] = _write_token(folder / "azure", "api://AzureADTokenExchange")
    provider, account = os.environ.get("GCP_WORKLOAD_IDENTITY_PROVIDER"), os.environ.get("GCP_SERVICE_ACCOUNT")
    if provider and account:
        audience = f"//iam.googleapis.com/{provider}"
        credentials = {
            "type": "external_account",
            "audience": audience,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/"
            f"serviceAccounts/{account}:generateAccessToken",
            "credential_source": {"file": _write_token(folder / "gcp", f"https:{audience}")},
        }
        os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = _write(folder / "gcp.json", json.dumps(credentials))


def _write_token(path: Path, audience: str) -> str:
    import requests

    answer = requests.get(
        os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"],
        params={"audience": audience},
        headers={"Authorization": f"Bearer {os.environ['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"},
        timeout=30,
    )
    if not answer.ok:
        raise UserError(
            f"GitHub issued no identity token for {audience} ({answer.status_code} {answer.reason}): "
            "give the job the permission `id-token: write`"
        )
    return _write(path, answer.json()["value"])


def _write(path: Path, secret: str) -> str:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(secret, encoding="utf-8")
    return str(path)
