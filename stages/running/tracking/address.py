"""Where MLflow is, and whether anything answers there."""

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
    """Raises UserError within 5 seconds when `uri` is no address, or nothing answers at one with a host."""
    parts = urlsplit(uri)
    if "://" not in uri and not uri.startswith("databricks"):
        raise UserError(
            f"MLFLOW_TRACKING_URI is {uri!r}, expected an address such as http://host:5000, "
            "sqlite:////path/mlflow.db or postgresql://host/database"
        )
    if not parts.hostname and parts.scheme not in ("http", "https"):
        return
    answers: list[str] = []
    # In a thread, because no time limit holds for looking up a name.
    thread = threading.Thread(target=lambda: answers.append(server_problem(uri)), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    reason = answers[0] if answers else "timed out"
    if not reason:
        return
    raise UserError(
        f"MLflow does not answer at MLFLOW_TRACKING_URI={parts.scheme}://{parts.netloc.rpartition('@')[2]} "
        f"({reason}): start it, unset the variable to use mlflow.db here, or "
        "set VISIONLOOP_TRACKING=later to go on and deliver to it with the next run"
    )


def server_problem(uri: str) -> str:
    """Why nothing can be delivered to a tracking URI with a host; empty when something answers there."""
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
        # It answered: whether it lets us in is its own affair. 5xx is what a proxy says for a server that is down.
        return str(error) if error.code >= 500 else ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        # It answered: MLflow has settings of its own for which certificates it trusts.
        return "" if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
    return ""
