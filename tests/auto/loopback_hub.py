"""A hub on this machine: as much of its interface as uploading a folder and downloading it again takes, over real HTTP."""

from __future__ import annotations

import base64
import json
import threading
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

REPO = "me/model"
COMMIT = sha1(b"commit", usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        page, hub = self.path.partition("?")[0], self.server
        hub.tokens.add(self.headers.get("Authorization", ""))
        if page == "/api/repos/create":
            hub.created = json.loads(body)
            self.answer({"url": f"{hub.url}/{REPO}", "id": "1"})
        elif page == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif page.endswith("/preupload/main"):
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self.answer({"files": [{"path": file["path"], **modes} for file in json.loads(body)["files"]]})
        elif page.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"success": True, "commitUrl": f"{hub.url}/{REPO}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.answer({"error": page}, 404)

    def do_GET(self) -> None:
        page, hub = self.path.partition("?")[0], self.server
        head, _, name = page.partition(f"/{REPO}/resolve/")
        name = name.partition("/")[2]
        if page.startswith(f"/api/models/{REPO}/revision/"):
            siblings = [{"rfilename": path} for path in hub.files]
            self.answer({"id": REPO, "sha": COMMIT, "private": True, "siblings": siblings})
        elif page.startswith(f"/api/models/{REPO}/tree/"):
            self.answer(
                [{"type": "file", "path": path, "size": len(data), "oid": oid(data)} for path, data in hub.files.items()]
            )
        elif not head and name in hub.files:
            self.answer(hub.files[name])
        else:
            self.answer({"error": page}, 404)

    do_HEAD = do_GET

    def answer(self, content: Any, status: int = 200) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{oid(data)}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def oid(data: bytes) -> str:
    return sha1(data, usedforsecurity=False).hexdigest()


class Hub(ThreadingHTTPServer):
    """The server as a context manager; `files` are those of its one repository."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}
        self.tokens: set[str] = set()

    def __enter__(self) -> Hub:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()
