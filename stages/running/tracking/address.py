"""The address of MLflow, and whether a server answers there."""

import http.client
import os
import socket
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from stages.running.terminal import UserError

PROBE_SECONDS = 3.0


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, or the default store of the main checkout at `root`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"


def check_server(uri: str) -> None:
    """Raises UserError within 5 seconds when `uri` is not an address, or has a host and no server answers."""
    parts = urlsplit(uri)
    if "://" not in uri and not uri.startswith("databricks"):
        raise UserError(
            f"MLFLOW_TRACKING_URI is {uri!r}, expected an address such as http://host:5000, "
            "sqlite:////path/mlflow.db or postgresql://host/database"
        )
    if not parts.hostname and parts.scheme not in ("http", "https"):
        return
    answers: list[str] = []
    # In a thread, because no timeout limits the look-up of a host name.
    thread = threading.Thread(target=lambda: answers.append(server_problem(uri)), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    reason = answers[0] if answers else "timed out"
    if not reason:
        return
    raise UserError(
        f"MLflow does not answer at MLFLOW_TRACKING_URI={parts.scheme}://{parts.netloc.rpartition('@')[2]} "
        f"({reason}): start it, unset the variable to use mlflow.db here, or "
        "set VISIONLOOP_TRACKING=later to run now and deliver with a later run"
    )


def server_problem(uri: str) -> str:
    """Why a tracking URI with a host cannot be reached; empty when a server answers."""
    parts = urlsplit(uri)
    try:
        if parts.scheme in ("http", "https"):
            address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health"
            urllib.request.urlopen(address, timeout=PROBE_SECONDS).close()
        else:
            port = parts.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}.get(parts.scheme.split("+")[0])
            if port:
                socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        # It answered, whether it grants access or not. A proxy answers 5xx for a server that is down.
        return str(error) if error.code >= 500 else ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        # It answered: MLflow has its own settings for the certificates that it trusts.
        return "" if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
    return ""
