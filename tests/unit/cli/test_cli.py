"""The command line as a user meets it: quick help, one line for what went wrong, text that stays text.

Speaks for ``bzzz.cli.status``, ``bzzz.cli.peers``, ``bzzz.cli.tasks``, ``bzzz.cli.config``, ``bzzz.cli.up`` and
``bzzz.cli.claims``, which it runs by their names, for the help of ``bzzz.cli.simulate``, and for what
``bzzz.cli.demo`` refuses.
"""

from __future__ import annotations

import asyncio
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.bare_repository import BareRepository

from bzzz.cli import local, main, printer, status, table
from bzzz.cli.main import COMMANDS
from bzzz.cli.printer import Printer
from bzzz.core.record import ClaimRecord, Holder, RecordState
from bzzz.core.task import Repository, TaskId
from bzzz.errors import BzzzError, ServiceNonsense, ServiceUnavailable, UsageError
from bzzz.ledger.git_ref import GitRefLedger

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "[bold red]x[/] :bug: \x1b[31m\u202e\x07 end\\"


def bzzz(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bzzz", *arguments],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def run(*arguments: str) -> int:
    """Run the command line in this process; its exit status."""
    with pytest.raises(SystemExit) as caught:
        main.main(list(arguments))
    return int(caught.value.code or 0)


# --- help -----------------------------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    code = "import sys\nfrom bzzz.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "typer" in loaded
    assert (
        loaded & {"libp2p", "trio", "fastapi", "sqlalchemy", "httpx", "uvicorn", "yaml", "zeroconf", "asyncio"}
        == set()
    )


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    shown = capsys.readouterr().out
    assert f"bzzz {name}" in shown.partition("Example:")[2]
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_without_a_command_help_is_shown_and_the_status_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "Commands:" in "".join(capsys.readouterr())


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("bzzz 0.")


def test_the_demo_wants_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "file"):
        assert run("demo", "--folder", str(folder)) == 2
        assert "an empty folder is needed" in capsys.readouterr().err


# --- what goes wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("nope",), ("status", "--nope"), ("claims",), ("up", "--data-dir")])
def test_what_is_asked_wrongly_ends_with_2_and_no_traceback(arguments: tuple[str, ...]) -> None:
    done = bzzz(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status",), "no node runs here"),
        (("peers", "--data-dir", "/nonexistent"), "/nonexistent/api.json"),
        (("claims", "nonsense"), "owner/name#number"),
        (("claims", "a/b#1"), "name a Hive"),
        (("config", "-c", "/nonexistent.toml"), "/nonexistent.toml"),
        (("tasks", "--url", "http://[::1"), "--url"),
        (("tasks", "--url", "host:80"), "--url"),
    ],
)
def test_a_users_mistake_is_one_line_and_2(arguments: tuple[str, ...], said: str) -> None:
    done = bzzz(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bzzz: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_setting_is_one_line_and_2() -> None:
    done = bzzz("config", BZZZ_API_PORT="many")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "bzzz: environment variable BZZZ_API_PORT: api.port = 'many' is not allowed; "
        "a whole number from 0 to 65535 is needed\n"
    )


@pytest.mark.parametrize(
    ("error", "status"), [(UsageError("a"), 2), (BzzzError("a"), 1), (ServiceUnavailable("Hive", "GET /"), 1)]
)
def test_an_error_of_ours_is_one_line_whatever_is_in_it(
    error: BzzzError, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error.args = (f"{error}: \x1b[2J\r\n<html>\n\n</html> \u202e",)

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("bzzz.cli.config.load", fails)
    assert run("config") == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("[2J <html> </html>\n")
    assert shown.err.removesuffix("\n").isprintable()


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bzzz.cli.config.load", interrupted)
    assert run("config") == 130


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = f"{sys.executable} -m bzzz config --json | head -c 1"
    done = subprocess.run(
        ["sh", "-c", code],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"[")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(1.5, "1 s"), (60, "1 min 0 s"), (3_725, "1 h 2 min"), (90_000, "1 d 1 h"), (8_640_000, "100 d 0 h")],
)
def test_how_long_a_node_runs_is_told_in_its_two_largest_units(seconds: float, told: str) -> None:
    assert status._span(seconds) == told


# --- tables and JSON ------------------------------------------------------------------------------------

NODE: Mapping[str, Mapping[str, Any]] = {
    "/status": {
        "name": HOSTILE,
        "status": "ready",
        "current_tasks": 0,
        "max_tasks": 1,
        "uptime_s": 1.5,
        "incarnation": 3,
        "node_id": HOSTILE,
        "connected_peers": 2,
        "hive": {"configured": True, "reachable": False, "trouble": HOSTILE * 5},
        "outbox_waiting": 0,
        "repositories": [{"repository": HOSTILE * 9, "watcher": HOSTILE, "trouble": HOSTILE * 30}],
    },
    "/peers": {
        "peers": [
            {
                "name": HOSTILE * 5,
                "node_id": "12D3KooW" * 6,
                "liveness": "alive",
                "current_tasks": 0,
                "max_tasks": 1,
                "heard_s_ago": 0.4,
                "specialization": "",
                "capabilities": [HOSTILE, "x" * 500],
            }
        ]
    },
    "/tasks": {
        "tasks": [
            {
                "task": "owner/" + "n" * 120 + "#1",
                "title": HOSTILE * 40,
                "state": "held",
                "holder": "walnut",
                "epoch": None,
                "pull_request": "https://forge.example/a/b/pull/7",
            }
        ]
    },
}


@pytest.fixture
def node() -> Iterator[str]:
    """A node's local API as far as commands see it: any path is answered from ``NODE``, others oddly."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            odd, _, path = self.path[1:].partition("/")
            body = {"odd": b'{"tasks": 3}', "html": b"<html>", "null": b"null"}.get(odd)
            answer = json.dumps(NODE.get(f"/{path}", {})).encode() if body is None else body
            self.send_response(404 if odd == "none" else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["status", "peers", "tasks"])
def test_tables_fit_80_columns_and_hostile_text_stays_text(
    name: str, node: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "--url", f"{node}/as") == 0
    shown = capsys.readouterr().out
    assert "[bold red]" in shown or name == "tasks"
    assert "\N{BUG}" not in shown
    assert all(line.isprintable() for line in shown.splitlines())
    lines = shown.splitlines()
    assert max(len(line) for line in (lines[5:] if name == "status" else lines)) <= 80


@pytest.mark.parametrize("name", ["status", "peers", "tasks"])
def test_json_is_json_and_whole(name: str, node: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--json", "--url", f"{node}/as") == 0
    assert json.loads(capsys.readouterr().out) == NODE[f"/{name}"]


def test_every_setting_is_shown_as_json_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "--json") == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["api.host"] | {"meaning": ""} == {
        "key": "api.host",
        "default": "127.0.0.1",
        "env": "",
        "meaning": "",
        "value": "127.0.0.1",
        "source": "default",
    }


@pytest.mark.parametrize("odd", ["odd", "html", "null", "none"])
@pytest.mark.parametrize("name", ["status", "peers", "tasks"])
def test_something_else_that_answers_is_said_to_be_something_else(
    odd: str, name: str, node: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "--url", f"{node}/{odd}") == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"bzzz: node {node}/{odd}: GET /{name}")
    assert shown.err.count("\n") == 1


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert run("tasks", "--url", f"{node}/as") == 0


def test_colour_only_on_a_terminal_and_never_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for no_color, coloured in (("", True), ("1", False)):
        out = Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("NO_COLOR", no_color)
        table.show([("state", "state"), ("title", "title")], [{"state": "dead", "title": "dead"}], "")
        assert ("\x1b[31mdead" in out.getvalue()) is coloured
        assert out.getvalue().count("\x1b[31m") == int(coloured)


def test_an_empty_table_says_what_that_means(capsys: pytest.CaptureFixture[str]) -> None:
    table.show([("a", "a")], [], "nothing [yet]")
    assert capsys.readouterr().out == "nothing [yet]\n"


def test_json_with_half_a_character_is_still_json(capsys: pytest.CaptureFixture[str]) -> None:
    table.show_json({"title": "half \ud83d", "other": "ü"})
    assert json.loads(capsys.readouterr().out) == {"title": "half \ud83d", "other": "ü"}


async def test_a_claims_chain_is_shown_from_the_git_server(tmp_path: Path) -> None:
    bare = BareRepository.create(tmp_path / "shop.git")
    repository = Repository(1, "shop", "acme", "shop", str(bare.path), "")
    record = ClaimRecord(
        TaskId("acme/shop", 7), 1, Holder("peer", HOSTILE), RecordState.HELD, "nonce", reason=HOSTILE
    )
    ledger = GitRefLedger(lambda _: None)
    won = await ledger.swap(repository, None, record)
    await ledger.close()
    assert won.won
    task = ["claims", "acme/shop#7", "--git-url", str(bare.path)]
    done = await asyncio.to_thread(bzzz, *task)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.isprintable() and len(line) <= 80 for line in done.stdout.splitlines())
    (row,) = json.loads((await asyncio.to_thread(bzzz, *task, "--json")).stdout)["claims"]
    assert (row["epoch"], row["state"], row["holder"], row["reason"]) == (1, "held", HOSTILE, HOSTILE)
    never = await asyncio.to_thread(bzzz, "claims", "acme/shop#8", "--git-url", str(bare.path))
    assert never.stdout == "acme/shop#8 was never claimed\n"
    gone = await asyncio.to_thread(bzzz, "claims", "acme/shop#7", "--git-url", str(tmp_path / "none.git"))
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)


# --- finding the node -----------------------------------------------------------------------------------


def test_a_node_is_found_by_the_address_it_left(tmp_path: Path, node: str) -> None:
    local.leave_address(tmp_path, f"{node}/as")
    assert [path.name for path in tmp_path.iterdir()] == [local.ADDRESS_FILE]
    assert run("peers", "--json", "--data-dir", str(tmp_path)) == 0
    local.remove_address(tmp_path)
    local.remove_address(tmp_path)
    with pytest.raises(UsageError):
        local.api_url(tmp_path, None)


def test_the_settings_that_a_node_was_started_with_find_it_too(tmp_path: Path, node: str) -> None:
    folder, file = tmp_path / "data", tmp_path / "bzzz.toml"
    folder.mkdir()
    file.write_text(f'[node]\ndata_dir = "{folder}"\n')
    local.leave_address(folder, f"{node}/as")
    for command in ("status", "peers", "tasks"):
        assert run(command, "--json", "-c", str(file)) == 0
    assert run("peers", "-c", str(file), "--data-dir", str(tmp_path)) == 2, "a folder that is named comes first"
    assert run("peers", "--json", "-c", str(tmp_path / "none.toml"), "--url", f"{node}/as") == 0, "an address, too"
    assert run("peers", "-c", str(tmp_path / "none.toml")) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3"])
def test_an_address_that_cannot_be_read_is_no_node(tmp_path: Path, content: str) -> None:
    (tmp_path / local.ADDRESS_FILE).write_text(content)
    with pytest.raises(UsageError, match="no node runs here"):
        local.api_url(tmp_path, None)


def test_a_node_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    local.leave_address(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(ServiceUnavailable, match="not ended in order"):
        local.get(tmp_path, None, "/status")


def test_what_an_answer_lacks_is_told(node: str) -> None:
    with (
        pytest.raises(ServiceNonsense, match="does not answer as a node does"),
        local.answer(None, f"{node}/as", "/tasks") as found,
    ):
        found["missing"]


# --- the console's log ----------------------------------------------------------------------------------

EVENT: dict[str, Any] = {"id": 1, "at": 0.0, "kind": "notice", "level": "info", "text": "hello"}


def test_events_are_printed_from_their_level_upwards_on_one_harmless_line() -> None:
    out = io.StringIO()
    with Printer(out, "warning") as echo:
        echo(EVENT)
        echo({**EVENT, "level": "error", "text": "a\n\x1b[2Jb", "task": "a/b#1", "peer": "p", "empty": ""})
    (line,) = out.getvalue().splitlines()
    assert line[8:] == " error   notice a/b#1 peer=p - a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2Jb"


def test_events_are_printed_as_json() -> None:
    out = io.StringIO()
    with Printer(out, "debug", as_json=True) as echo:
        echo({**EVENT, "text": "half \ud83d"})
    assert json.loads(out.getvalue()) == {**EVENT, "text": "half \ud83d"}


def test_a_console_that_is_held_does_not_hold_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printer, "LINES_WAITING_MAX", 3)
    held, writing = threading.Event(), threading.Event()

    class Console(io.StringIO):
        def write(self, text: str) -> int:
            writing.set()
            held.wait()
            return super().write(text)

    out = Console()
    with Printer(out, "info") as echo:
        echo(EVENT)
        writing.wait()
        for _ in range(10):
            echo(EVENT)
        assert echo.dropped == 7
        held.set()
    assert out.getvalue().count("hello") == 4
    assert "7 lines could not be printed" in out.getvalue()


def test_a_console_that_is_gone_is_no_error() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Printer(Gone(), "info") as echo:
        echo(EVENT)
        echo(EVENT)
    assert echo.dropped == 2


# --- bzzz up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_starts_is_found_and_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    data = tmp_path / "data"
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    arguments = ["up", "--data-dir", str(data), "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--log-json"]
    with subprocess.Popen(
        [sys.executable, "-m", "bzzz", *arguments], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        kinds: list[str] = []
        for line in process.stderr:
            kinds.append(json.loads(line)["kind"])
            if kinds[-1] == "started":
                found = bzzz("status", "--json", "--data-dir", str(data))
                assert json.loads(found.stdout)["hive"]["configured"] is False
                second = bzzz(*arguments)
                assert (second.returncode, second.stderr.count("\n")) == (2, 1)
                assert "another node is running" in second.stderr
                process.send_signal(number)
        assert process.wait() == 0
    assert kinds[-1] == "stopped"
    assert not (data / local.ADDRESS_FILE).exists()


def test_the_modules_of_the_commands_are_those_of_the_table() -> None:
    assert all(module.startswith("bzzz.cli.") and text.endswith(".") for module, text in COMMANDS.values())


def test_ctrl_c_in_a_class_body_while_a_command_is_imported_ends_as_ctrl_c(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before Python 3.12 it leaves the class body as a RuntimeError, whose cause it is."""
    (tmp_path / "bzzz_interrupted.py").write_text(
        "try:\n    raise KeyboardInterrupt\nexcept BaseException as it:\n    raise RuntimeError from it\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(main, "COMMANDS", {"broken": ("bzzz_interrupted", "Never runs.")})
    with pytest.raises(SystemExit) as ended:
        main.main(["broken"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""
