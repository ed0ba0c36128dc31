"""A Hugging Face hub on this machine with one data set: what `datasets` asks of the real one, answered the same way."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serving(name: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve the files of a data set, at `COMMIT`; yield the address for `HF_ENDPOINT`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(name, files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(name: str, files: Mapping[str, bytes]) -> type[BaseHTTPRequestHandler]:
    api, content = f"/api/datasets/{name}", f"/datasets/{name}/resolve/{COMMIT}/"
    about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": path} for path in files], "tags": []}
    listed = [{"type": "file", "path": path, "size": len(files[path]), "oid": path} for path in files]
    answers = {api: about, f"{api}/revision/{COMMIT}": about, f"{api}/tree/{COMMIT}": listed}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path in answers:
                self.answer(200, json.dumps(answers[path]).encode(), {"Content-Type": "application/json"})
            elif path.removeprefix(content) in files:
                file = path.removeprefix(content)
                self.answer(200, files[file], {"ETag": f'"{file}"', "X-Repo-Commit": COMMIT})
            else:
                missing = "EntryNotFound" if path.startswith((api, content)) else "RepoNotFound"
                self.answer(404, b"", {"X-Error-Code": missing})

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: the tests' output stays clean."""

    return Handler
