"""The house's rules that no linter knows, each a function from one file to what it finds wrong there.

A rule takes a file's path (relative to the project, with slashes) and its text, and yields one line for each
thing that is wrong, with the line number where there is one. Rules read nothing themselves, so each can be shown
to fail on a sample. Rules about the whole tree are at the end. What ruff, mypy and import-linter check is left to
them.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FUNCTION_LINES_MAX = 100  # 70 is the point to look for a better cut; this one is hard
MODULE_LINES_MAX = 500  # and 350
TEST_MODULE_LINES_MAX = 800  # one suite of one port is one module
SLEEP_S_MIN = 0.1  # a test that waits as long as this waits on the clock, not on a signal

DEMO_CONTENT = "src/bzzz/demo/content/"  # repositories of their own, with rules of their own
OWN = "tests/tidy/"  # has to name what it forbids

VAGUE_NAMES = frozenset({"util", "utils", "common", "manager", "managers", "helper", "helpers", "misc"})
POSTPONED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
NOT_RUN = re.compile(r"\bpytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b|\bunittest\.(skip|expectedFailure)")
FORBIDDEN_WORDS = re.compile(
    r"\b(workplaces?|CEO|integrator|subagents?|co-authored-by|as an AI|seamless(ly)?|blazing(ly)?|cutting[- ]edge"
    r"|world[- ]class|enterprise[- ]grade|battle[- ]tested)\b",
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile(r"(?<![\w.-])(/root/\.\w+|/work/(main|shared)|/tmp/(wt|brief)|/Users/\w+)")
# Written in two halves, so that these lines do not name them either.
INDEX_HOSTS = re.compile("|".join(re.escape(a + b) for a, b in (("pypi", ".org"), ("python", "hosted.org"))))

Rule = Callable[[str, str], Iterator[str]]


def _tree(path: str, text: str) -> ast.Module:
    return ast.parse(text, path) if path.endswith(".py") else ast.Module([], [])


def _is_code(path: str) -> bool:
    return path.endswith(".py") and not path.startswith(DEMO_CONTENT)


def clear_name(path: str, text: str) -> Iterator[str]:
    """A module is named by its one concept."""
    del text
    if _is_code(path):
        for part in path.removesuffix(".py").split("/"):
            for word in sorted(VAGUE_NAMES.intersection(part.lower().split("_"))):
                yield f"{part!r} says nothing: name the concept instead of {word!r}"


def docstring(path: str, text: str) -> Iterator[str]:
    """A module begins with what it is, promises, and leaves to others."""
    if path.startswith("src/") and _is_code(path) and not ast.get_docstring(_tree(path, text)):
        yield "has no module docstring"


def size(path: str, text: str) -> Iterator[str]:
    """Functions and modules stay small enough to be read in one go."""
    if not _is_code(path):
        return
    lines, lines_max = text.count("\n"), TEST_MODULE_LINES_MAX if path.startswith("tests/") else MODULE_LINES_MAX
    if lines > lines_max:
        yield f"has {lines} lines; {lines_max} is the limit"
    for node in ast.walk(_tree(path, text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{node.lineno}: {node.name}() has {length} lines; {FUNCTION_LINES_MAX} is the limit"


def finished(path: str, text: str) -> Iterator[str]:
    """Nothing is left for later, and every test is run."""
    if path.startswith(OWN):
        return
    for number, line in enumerate(text.splitlines(), 1):
        for found in POSTPONED.finditer(line):
            yield f"{number}: {found.group()} postpones; do it, or open an issue"
        if path.startswith("tests/") and (skipped := NOT_RUN.search(line)):
            yield f"{number}: {skipped.group()} keeps a test from being run"


def patient_test(path: str, text: str) -> Iterator[str]:
    """A test waits on a signal or on virtual time, never on the clock."""
    if not (path.startswith("tests/") and _is_code(path)):
        return
    for node in ast.walk(_tree(path, text)):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        wait = node.args[0]
        seconds = wait.value if isinstance(wait, ast.Constant) else None
        if name == "sleep" and isinstance(seconds, int | float) and seconds >= SLEEP_S_MIN:
            yield f"{node.lineno}: sleeps {seconds} s; wait on a signal, or use virtual time"


def quiet(path: str, text: str) -> Iterator[str]:
    """Only the command line prints."""
    if not (path.startswith("src/") and _is_code(path)) or path.startswith("src/bzzz/cli/"):
        return
    for node in ast.walk(_tree(path, text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{node.lineno}: print() outside src/bzzz/cli"


def at_home_anywhere(path: str, text: str) -> Iterator[str]:
    """Nothing tells of the machine it was written on, or of where packages come from."""
    for number, line in enumerate(text.splitlines(), 1):
        if not path.startswith(OWN) and (machine := MACHINE_PATHS.search(line)):
            yield f"{number}: {machine.group()} is a path of one machine"
        if host := INDEX_HOSTS.search(line):
            yield f"{number}: {host.group()} is an index; where packages come from is the machine's own setting"


def plain_words(path: str, text: str) -> Iterator[str]:
    """The text is about the product, in plain words."""
    if path.startswith(OWN):
        return
    for number, line in enumerate(text.splitlines(), 1):
        if word := FORBIDDEN_WORDS.search(line):
            yield f"{number}: {word.group()!r} is not a word of this house"


def locked(path: str, text: str) -> Iterator[str]:
    """Every requirement of the lock has one version and a hash, and none has an address."""
    if path != "requirements/lock.txt":
        return
    blocks = [block for block in re.split(r"(?m)^(?=\S)", text) if block.strip()]
    if not blocks:
        yield "locks nothing"
    for block in blocks:
        name = block.split()[0]
        if "==" not in name:
            yield f"{name} is not pinned to one version"
        if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", block):
            yield f"{name} has no hash"
        if re.search(r"https?://|--(extra-)?index-url|--find-links", block):
            yield f"{name} has an address"


RULES: tuple[Rule, ...] = (
    clear_name,
    docstring,
    size,
    finished,
    patient_test,
    quiet,
    at_home_anywhere,
    plain_words,
    locked,
)


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _has_behaviour(tree: ast.Module) -> bool:
    """Whether any function does something; a protocol's methods have a docstring and dots alone."""
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not all(isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in node.body)
        for node in ast.walk(tree)
    )


def untested(files: Mapping[str, str]) -> list[str]:
    """Modules of the product with behaviour that no test speaks for.

    A test speaks for a module that it imports, that it names in its text (``bzzz.a.b``), or whose twin it is:
    ``tests/**/a/test_b.py`` for ``src/bzzz/a/b.py``. What such a module imports is then tested through it; what
    lies deeper needs a test that says so, for else nobody can tell where its failures would show.
    """
    spoken: set[str] = set()
    for path, text in files.items():
        if path.startswith("tests/") and path.endswith(".py"):
            spoken.update(_imported(_tree(path, text)), re.findall(r"\bbzzz(?:\.\w+)+", text))
    modules = {
        path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", "."): path
        for path in files
        if path.startswith("src/bzzz/") and _is_code(path)
    }
    direct = {name for name in modules if name in spoken or _has_twin(name, files)}
    through: set[str] = set()
    for name in direct:
        through.update(_imported(_tree(modules[name], files[modules[name]])))
    return [
        f"{path}: no test imports or names {name}, or a module that imports it"
        for name, path in sorted(modules.items())
        if name not in direct | through
        and "/migrations/" not in path  # run by their number, never imported
        and _has_behaviour(_tree(path, files[path]))
    ]


def _has_twin(name: str, files: Mapping[str, str]) -> bool:
    *packages, module = name.split(".")
    folder = f"/{packages[-1]}" if len(packages) > 1 else ""
    return any(path.endswith(f"{folder}/test_{module}.py") for path in files if path.startswith("tests/"))


def unlocked(project: str, lock: str) -> list[str]:
    """What ``pyproject.toml`` asks for and the lock does not hold in a version that fits."""
    table = tomllib.loads(project)
    wanted = [*table["project"]["dependencies"], *table.get("dependency-groups", {}).get("dev", ())]
    held = {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", lock)}
    found = []
    for requirement in map(Requirement, wanted):
        version = held.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement} is locked at {version}; run: make lock")
    return found


def namesakes(paths: Collection[str]) -> list[str]:
    """Test modules that share a name: pytest's reports, and people, would take one for the other."""
    seen: dict[str, str] = {}
    found = []
    for path in sorted(paths):
        name = path.rsplit("/", 1)[-1]
        if path.startswith("tests/") and name.startswith("test_"):
            if name in seen:
                found.append(f"{path} has the name of {seen[name]}")
            seen.setdefault(name, path)
    return found
