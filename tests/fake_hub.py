"""A Hugging Face Hub on this machine, for the real client: models, commits, files, and nothing else."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants as constants
import pytest


class FakeHub:
    """What the hub holds: for each model its commits, oldest first, each a dict of files."""

    def __init__(self):
        self.models, self.asked = {}, []

    def commit(self, name, files):
        """Add a commit; gives its hash."""
        commits = self.models.setdefault(name, {})
        latest = dict(next(reversed(commits.values()))) if commits else {}
        oid = hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits[oid] = {**latest, **files}
        return oid

    def commit_folder(self, name, folder):
        return self.commit(name, {path.name: path.read_bytes() for path in folder.iterdir()})

    def at(self, name, revision):
        commits = self.models.get(name, {})
        oid = next(reversed(commits), None) if revision == "main" else revision
        return (oid, commits[oid]) if oid in commits else (None, None)


@contextmanager
def running(tmp_path):
    """A hub that the client takes for the Hugging Face Hub; its cache is below `tmp_path`."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Handler(hub, *args))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", address)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub, *args):
        self.hub = hub
        super().__init__(*args)

    def do_GET(self):
        self.hub.asked.append(self.path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?(?:\?.*)?", self.path):
            oid, files = self.hub.at(found[1], found[2] or "main")
            if oid is None:
                return self.missing()
            return self.json({"id": found[1], "sha": oid, "siblings": [{"rfilename": name} for name in files]})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/?]+)(?:\?.*)?", self.path):
            oid, files = self.hub.at(found[1], found[2])
            if oid is None:
                return self.missing()
            digests = {name: hashlib.sha1(content).hexdigest() for name, content in files.items()}
            return self.json(
                [{"type": "file", "path": name, "size": len(files[name]), "oid": oid} for name, oid in digests.items()]
            )
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            oid, files = self.hub.at(found[1], found[2])
            if oid is None or found[3] not in files:
                return self.missing()
            content = files[found[3]]
            return self.answer(content, {"X-Repo-Commit": oid, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        return self.missing()

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        self.hub.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.hub.models.setdefault(name, {})
            return self.json({"url": f"{constants.ENDPOINT}/{name}", "id": name, "name": name})
        if self.path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        if re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/main", self.path):
            files = json.loads(body)["files"]
            modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            return self.json({"files": modes})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            lines = [json.loads(line) for line in body.splitlines() if line]
            files = [line["value"] for line in lines if line["key"] == "file"]
            oid = self.hub.commit(found[1], {file["path"]: base64.b64decode(file["content"]) for file in files})
            address = f"{constants.ENDPOINT}/{found[1]}/commit/{oid}"
            return self.json({"success": True, "commitOid": oid, "commitUrl": address})
        return self.missing()

    def json(self, value):
        self.answer(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def missing(self):
        self.answer(b"", {"X-Error-Code": "RepoNotFound"}, 404)

    def answer(self, content, headers, code=200):
        self.send_response(code)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args):
        pass
