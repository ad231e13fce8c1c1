"""The judging page: served on this machine alone, one link for each annotator."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined

from train.judging.annotations import write_annotations
from train.judging.ballots import Ballots
from train.judging.wording import QUESTIONS

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1000
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'"
)


class Desk(ThreadingHTTPServer):
    """Shows the next comparison to whoever has a link, and saves each answer at once.

    After every answer `csv_path` holds all judgments so far.
    """

    daemon_threads = True

    def __init__(self, ballots: Ballots, csv_path: Path, port: int) -> None:
        super().__init__((HOST, port), _Handler)
        self.ballots = ballots
        self.csv_path = csv_path
        self._exporting = threading.Lock()
        environment = Environment(
            loader=PackageLoader("train.judging", "."),
            autoescape=True,
            undefined=StrictUndefined,
        )
        self.template = environment.get_template("desk.html.jinja")

    @property
    def port(self) -> int:
        return self.server_address[1]

    def address(self, annotator: str) -> str:
        return f"http://{HOST}:{self.port}/{self.ballots.link(annotator)}"

    def addresses(self, annotators: Sequence[str]) -> dict[str, str]:
        return {name: self.address(name) for name in annotators}

    def export(self) -> None:
        """Writes all judgments so far; of two annotators at once, the later one writes both."""
        with self._exporting:
            write_annotations(self.csv_path, self.ballots.judgments())

    def page(self, annotator: str) -> str:
        ballots = self.ballots.ballots(annotator)
        open_ones = [ballot for ballot in ballots if not ballot.is_done]
        return self.template.render(
            questions=QUESTIONS,
            ballot=open_ones[0] if open_ones else None,
            number=len(ballots) - len(open_ones) + 1,
            total=len(ballots),
        )


class _Handler(BaseHTTPRequestHandler):
    server: Desk  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        annotator = self._annotator()
        if annotator is not None:
            self._send(HTTPStatus.OK, self.server.page(annotator), "text/html")

    def do_POST(self) -> None:
        """`{"number", "dimension", "side"}`: one answer."""
        annotator = self._annotator()
        if annotator is None:
            return
        try:
            length = int(self.headers.get("Content-Length", "0"))
            if not 0 < length <= MAX_BODY_BYTES:
                raise ValueError("an answer is a short JSON object")
            given = json.loads(self.rfile.read(length))
            self.server.ballots.answer(
                annotator, int(given["number"]), str(given["dimension"]), str(given["side"])
            )
        except (ValueError, KeyError, TypeError) as error:
            self._send(HTTPStatus.BAD_REQUEST, str(error), "text/plain")
            return
        self.server.export()
        self._send(HTTPStatus.OK, "saved", "text/plain")

    def _annotator(self) -> str | None:
        """Whose link this is; who has none, or comes by another name of this machine, is refused.

        A page elsewhere may have its own name point to this machine, and so read what is here.
        """
        host = self.headers.get("Host", "")
        known = {f"{name}:{self.server.port}" for name in (HOST, "localhost")}
        link = urlsplit(self.path).path.strip("/")
        annotator = self.server.ballots.annotator(link) if host in known else None
        if annotator is None:
            self._send(HTTPStatus.NOT_FOUND, "There is nothing here.", "text/plain")
        return annotator

    def _send(self, status: HTTPStatus, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a link is as good as a password, and would stand in the log."""
