"""The report of runs that are going on, served on this machine only."""

import hashlib
import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pi0.ript.report.page.figures import RunMetrics
from pi0.ript.report.page.render import render_page
from pi0.ript.report.page.run_files import evaluation_files, read_run

LOOPBACK = "127.0.0.1"


class LiveRuns:
    """What is known of the runs; several browsers may send requests at once."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Read the runs.

        Raises:
            ValueError: A folder is no run directory.
        """
        self._folders = tuple(folders)
        self._videos = [read_run(folder).video_folder for folder in folders]
        self._metrics = [RunMetrics(folder) for folder in folders]
        self._lock = threading.Lock()

    def page(self) -> str:
        """Return the whole page as of this moment."""
        with self._lock:
            return render_page(self._folders, self._cursor())

    def updates(self, cursor: dict[str, Any]) -> dict[str, Any]:
        """Return what was appended since ``cursor``, which a page or an earlier response held."""
        with self._lock:
            now = self._cursor()
            if now["version"] != cursor["version"]:
                return {"version": now["version"], "cursor": now, "runs": []}
            runs = [
                {"lines": metrics.lines[known["lines"] :]}
                | (metrics.rollouts() if known["rollouts"] != metrics.num_rollouts else {})
                for metrics, known in zip(self._metrics, cursor["runs"], strict=True)
            ]
            return {"version": now["version"], "cursor": now, "runs": runs}

    def _cursor(self) -> dict[str, Any]:
        for metrics in self._metrics:
            metrics.refresh()
        return {
            "version": self._version(),
            "runs": [
                {"lines": len(metrics.lines), "rollouts": metrics.num_rollouts}
                for metrics in self._metrics
            ],
        }

    def _version(self) -> str:
        """Return a hash of what a page cannot take step by step: evaluations, videos, resumes."""
        files = [
            (str(path), path.stat().st_mtime_ns)
            for folder, videos in zip(self._folders, self._videos, strict=True)
            for path in [*evaluation_files(folder), *sorted(videos.glob("step_*/*.mp4"))]
        ]
        restarts = [metrics.num_restarts for metrics in self._metrics]
        return hashlib.sha256(repr((files, restarts)).encode()).hexdigest()[:16]


class _Handler(BaseHTTPRequestHandler):
    """Responds to ``/`` with the page and to ``/updates?cursor=...`` with what is new."""

    def __init__(self, runs: LiveRuns, *arguments: Any) -> None:
        self._runs = runs
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Respond to a request."""
        # A foreign web page that points its own name at this machine must not read the runs.
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in (LOOPBACK, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        url = urlsplit(self.path)
        with suppress(ConnectionError):  # a tab that was closed meanwhile
            if url.path == "/":
                self._send_page()
            elif url.path == "/updates":
                self._send_updates(url.query)
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

    def _send_page(self) -> None:
        try:
            page = self._runs.page()
        except (ValueError, OSError) as error:  # a run directory that is gone
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, " ".join(str(error).split()))
            return
        self._send("text/html; charset=utf-8", page)

    def _send_updates(self, query: str) -> None:
        try:
            updates = self._runs.updates(json.loads(parse_qs(query)["cursor"][0]))
        except (ValueError, KeyError, TypeError, RecursionError):
            self.send_error(HTTPStatus.BAD_REQUEST, "cursor is missing or damaged")
            return
        self._send("application/json", json.dumps(updates))

    def _send(self, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: a page sends more than one request a second."""


def make_server(folders: Sequence[Path], port: int) -> ThreadingHTTPServer:
    """Return a server of the live page on the loopback address; port 0 takes a free one.

    Raises:
        ValueError: A folder is no run directory.
        OSError: The port is taken.
    """
    runs = LiveRuns(folders)
    return ThreadingHTTPServer((LOOPBACK, port), partial(_Handler, runs))
