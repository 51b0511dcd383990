"""The part of GitHub's REST API that CI uses, on this machine: comments, issues, pull requests, statuses and so on."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BOT = {"login": "github-actions[bot]", "type": "Bot"}


class GitHubServer:
    """What it was told is in its lists; a test opens pull requests by `open_pull_request`."""

    def __init__(self, repository: str = "acme/visionloop", token: str = "ghs_token") -> None:
        self.repository, self.token = repository, token
        self.comments: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []
        self.pull_requests: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.dispatches: list[tuple[str, str]] = []  # workflow, branch
        self.merged: dict[str, int] = {}  # commit on main -> the pull request that brought it
        self.refused: list[str] = []
        handler = type("Handler", (_Handler,), {"github": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def open_pull_request(self, branch: str, base: str = "main", title: str = "", body: str = "") -> dict[str, Any]:
        pull = {"number": self._number(), "title": title, "body": body, "state": "open"}
        pull |= {"head": {"ref": branch}, "base": {"ref": base}}
        self.pull_requests.append(pull)
        return pull

    def comments_on(self, number: int) -> list[str]:
        return [comment["body"] for comment in self.comments if comment["issue"] == number]

    def _number(self) -> int:
        return 100 + len(self.pull_requests) + len(self.issues)

    def answer(self, method: str, path: str, query: dict[str, str], content: dict[str, Any]) -> tuple[int, Any]:
        """Status code and content of an answer; the routes are GitHub's own."""
        prefix = f"/repos/{self.repository}/"
        if not path.startswith(prefix):
            return 404, {"message": "Not Found"}
        path, page = path.removeprefix(prefix), int(query.get("page", 1))

        def listed(entries: list[Any]) -> tuple[int, Any]:
            size = int(query.get("per_page", 30))
            return 200, entries[(page - 1) * size : page * size]

        if found := re.fullmatch(r"issues/(\d+)/comments", path):
            number = int(found[1])
            if method == "GET":
                return listed([comment for comment in self.comments if comment["issue"] == number])
            self.comments.append({"id": len(self.comments) + 1, "issue": number, "body": content["body"], "user": BOT})
            return 201, self.comments[-1]
        if (found := re.fullmatch(r"issues/comments/(\d+)", path)) and method == "PATCH":
            self.comments[int(found[1]) - 1]["body"] = content["body"]
            return 200, self.comments[int(found[1]) - 1]
        if path == "issues":
            if method == "GET":
                return listed([issue for issue in self.issues if issue["state"] == query.get("state", "open")])
            self.issues.append({"number": self._number(), "state": "open", **content})
            return 201, self.issues[-1]
        if path == "pulls":
            if method == "GET":
                branch = query.get("head", ":").split(":", 1)[1]
                return 200, [p for p in self.pull_requests if p["head"]["ref"] == branch and p["state"] == "open"]
            pull = self.open_pull_request(content["head"], content["base"], content["title"], content["body"])
            return 201, pull
        if found := re.fullmatch(r"commits/([0-9a-f]{40})/pulls", path):
            return 200, [p for p in self.pull_requests if p["number"] == self.merged.get(found[1])]
        if (found := re.fullmatch(r"statuses/([0-9a-f]{40})", path)) and method == "POST":
            self.statuses.append({"sha": found[1], **content})
            return 201, self.statuses[-1]
        if (found := re.fullmatch(r"actions/workflows/([\w.]+)/dispatches", path)) and method == "POST":
            self.dispatches.append((found[1], content["ref"]))
            return 204, None
        return 404, {"message": "Not Found"}


class _Handler(BaseHTTPRequestHandler):
    github: GitHubServer

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = json.loads(self.rfile.read(length) or b"{}")
        parts = urlsplit(self.path)
        if self.headers.get("Authorization") == f"Bearer {self.github.token}":
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            code, body = self.github.answer(self.command, parts.path, query, content)
        else:
            code, body = 401, {"message": "Bad credentials"}
        if code >= 400:
            self.github.refused.append(f"{self.command} {self.path}: {code}")
        self.send_response(code)
        payload = b"" if body is None else json.dumps(body).encode()
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_PATCH = _serve

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet: pytest shows what matters."""
