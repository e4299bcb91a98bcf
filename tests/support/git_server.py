"""A real plain git server for tests: ``git http-backend`` behind a small threaded HTTP server.

It serves every bare repository below a folder, keeps connections alive, can ask for a token, and misbehaves
on demand: ``server.misbehave(Fault(...))`` queues one fault for the next request to a service. It can be
stopped, killed (its git processes too) and started again at the same port. ``server.requests`` tells what
was asked of it. It needs no web server and no root.

    server = GitServer(folder)
    server.start()
    server.create("acme/widgets")
    ... httpx, git, a ledger on server.git_url("acme/widgets") ...
    server.stop()

``python -m tests.support.git_server FOLDER`` serves in a process of its own, writes its address as the first
line, and ends when its standard input does.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.bare_repository import ENVIRONMENT, BareRepository

UPLOAD_PACK = "git-upload-pack"
RECEIVE_PACK = "git-receive-pack"
WAIT_S_MAX = 30.0


class Trouble(enum.Enum):
    """What goes wrong with one request."""

    ANSWER = "answered with a status, and not carried out"
    ANSWER_AFTER = "carried out, then answered with a status, as by a proxy that gave up"
    CUT = "the connection is cut, and it is not carried out"
    CUT_AFTER = "carried out, then the connection is cut"
    CUT_THEN_CARRY_OUT = "the connection is cut, and it is carried out when the fault is released"
    DELAY = "carried out and answered when the fault is released"
    TWICE = "carried out twice, and the second answer is given, as by a proxy that sends again"


@dataclass(slots=True)
class Fault:
    """One fault for one request to ``service`` (a POST), or to any if that is empty."""

    trouble: Trouble
    service: str = RECEIVE_PACK
    status: int = 502
    body: bytes = b"<html>bad gateway</html>"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})
    released: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked, with the headers it sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    connection: int


class GitServer:
    """Serves the bare repositories below ``root`` on loopback.

    ``tokens`` maps a token to whether it may write; with none, everybody may do everything.
    """

    def __init__(self, root: Path, tokens: Mapping[str, bool] | None = None) -> None:
        self.root = root
        self.tokens = dict(tokens or {})
        self.requests: list[Request] = []
        self.port = 0
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._http: _HttpServer | None = None
        self._thread: threading.Thread | None = None
        self._children: set[subprocess.Popen[bytes]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def git_url(self, key: str) -> str:
        return f"{self.url}/{key}.git"

    def create(self, key: str, files: Mapping[str, bytes] | None = None) -> BareRepository:
        """Make a bare repository ``owner/name``, with a commit on ``main``."""
        return BareRepository.create(self.root / f"{key}.git", files)

    def start(self) -> None:
        """Listen; after a stop or a kill at the same port again."""
        self._http = _HttpServer(("127.0.0.1", self.port), self)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and cut every connection; what is being carried out goes on."""
        http_server, self._http = self._http, None
        if http_server is not None and self._thread is not None:
            http_server.shutdown()
            http_server.server_close()
            http_server.cut_all()
            self._thread.join(WAIT_S_MAX)

    def kill(self) -> None:
        """As ``stop``, and SIGKILL to the git processes that are at work."""
        self.stop()
        with self._lock:
            children = list(self._children)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def misbehave(self, *faults: Fault) -> None:
        """Queue faults; each strikes once, in order, at the next request to its service."""
        with self._lock:
            self._faults.extend(faults)

    def posts(self) -> list[str]:
        """The services that were POSTed to, in order."""
        return [request.path.rpartition("/")[2] for request in self.requests if request.method == "POST"]

    def take_fault(self, service: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.service in {"", service}:
                    self._faults.remove(fault)
                    return fault
        return None

    def may(self, token: str | None, service: str) -> int:
        """200, or the status that refuses this token for this service."""
        if not self.tokens:
            return 200
        if token not in self.tokens:
            return 401
        return 200 if self.tokens[token] or service != RECEIVE_PACK else 403

    def run_backend(self, environment: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        child = subprocess.Popen(
            ["git", "http-backend"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**ENVIRONMENT, **environment, "GIT_PROJECT_ROOT": str(self.root), "GIT_HTTP_EXPORT_ALL": "1"},
        )
        with self._lock:
            self._children.add(child)
        try:
            answer, _ = child.communicate(body)
        finally:
            with self._lock:
                self._children.discard(child)
        head, _, rest = answer.partition(b"\r\n\r\n")
        headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n") if b": " in line)
        status = int(headers.pop("Status", "200" if headers else "500").split(" ")[0])
        return status, headers, rest


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: GitServer) -> None:
        self.owner = owner
        self._connections: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        with self._guard:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._guard:
            self._connections.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        with self._guard:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    server: _HttpServer

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._handle(body)

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _handle(self, body: bytes) -> None:
        owner = self.server.owner
        owner.requests.append(
            Request(self.command, self.path.partition("?")[0], dict(self.headers.items()), self.client_address[1])
        )
        path, _, query = self.path.partition("?")
        service = query.partition("service=")[2] or path.rpartition("/")[2]
        allowed = owner.may(self._token(), service)
        if allowed != 200:
            headers = {"Content-Type": "text/plain", "WWW-Authenticate": 'Basic realm="git"'}
            self._answer(allowed, headers, b"not allowed")
            return
        fault = owner.take_fault(service) if self.command == "POST" else None
        if fault is None:
            self._answer(*self._carry_out(path, query, body))
            return
        try:
            self._suffer(fault, path, query, body)
        finally:
            fault.finished.set()

    def _suffer(self, fault: Fault, path: str, query: str, body: bytes) -> None:
        fault.reached.set()
        match fault.trouble:
            case Trouble.ANSWER:
                self._answer(fault.status, fault.headers, fault.body)
            case Trouble.ANSWER_AFTER:
                self._carry_out(path, query, body)
                self._answer(fault.status, fault.headers, fault.body)
            case Trouble.CUT:
                self._cut()
            case Trouble.CUT_AFTER:
                self._carry_out(path, query, body)
                self._cut()
            case Trouble.CUT_THEN_CARRY_OUT:
                self._cut()
                if fault.released.wait(WAIT_S_MAX):
                    self._carry_out(path, query, body)
            case Trouble.DELAY:
                if fault.released.wait(WAIT_S_MAX):
                    self._answer(*self._carry_out(path, query, body))
            case Trouble.TWICE:
                self._carry_out(path, query, body)
                self._answer(*self._carry_out(path, query, body))

    def _carry_out(self, path: str, query: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        environment = {
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "tester",
            "REMOTE_ADDR": self.client_address[0],
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        return self.server.owner.run_backend(environment, body)

    def _token(self) -> str | None:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        with contextlib.suppress(ValueError):
            return base64.b64decode(value).decode().partition(":")[2]
        return None

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Silent: ``server.requests`` tells."""


def main() -> None:
    server = GitServer(Path(sys.argv[1]))
    server.start()
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
