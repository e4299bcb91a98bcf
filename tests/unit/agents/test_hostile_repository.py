"""A repository that an agent touched is hostile: nothing planted in it may run a program on the host.

Each plant is also tried on git as a careless host would run it, so that a plant which never could run
anything is noticed. The sandbox is off here: what is tested is the host's part.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.agent_fixture import FILES, Bench, git, make_origin, shell, show

from bzzz.agents.git import Git, is_git_name
from bzzz.agents.runner import ProcessAgentRunner
from bzzz.agents.tree import DEPTH_MAX, remove
from bzzz.agents.workspace import Saved, Signature, Workspace
from bzzz.errors import AgentError
from bzzz.ports import Outcome

SIGNATURE = Signature("walnut", "noreply@bzzz.invalid", "Work\n", 1_700_000_000)
BYTES_MAX = 1024 * 1024

# Each script runs at the top of a work tree; $EVIL is a program that leaves a file behind when it is run.
EMBEDDED = "git init -q sub && cd sub && echo x > x && git add x && git commit -qm x"
PLANTS = {
    "monitor": "git config core.fsmonitor $EVIL",
    "hook": "for h in pre-commit post-checkout post-index-change reference-transaction; do"
    " mkdir -p .git/hooks; cp $EVIL .git/hooks/$h; done",
    "hooks_path": "mkdir h; cp $EVIL h/post-index-change; git config core.hooksPath $PWD/h",
    "git_file": "mv .git ../elsewhere; echo gitdir: $PWD/../elsewhere > .git; git config core.fsmonitor $EVIL",
    "filter": "git config filter.f.clean $EVIL; git config filter.f.smudge $EVIL;"
    " git config filter.f.process $EVIL;"
    " echo '* filter=f' > .gitattributes",
    "embedded_monitor": f"({EMBEDDED} && git config core.fsmonitor $EVIL); git add sub; echo y >> sub/x",
    "embedded_filter": f"({EMBEDDED} && git config filter.f.clean $EVIL && echo '* filter=f' > .gitattributes);"
    " git add sub; echo y > sub/x",
    "submodule": f"({EMBEDDED} && git config core.fsmonitor $EVIL); git add sub; echo y >> sub/x;"
    " git config -f .gitmodules submodule.sub.path sub; git config -f .gitmodules submodule.sub.url ./sub;"
    " git config -f .gitmodules submodule.sub.ignore none; git config -f .gitmodules submodule.sub.update '!'$EVIL",
    "work_tree": "mkdir ../w; git config core.worktree $PWD/../w; git config core.fsmonitor $EVIL",
    "external_diff": "git config diff.external $EVIL; echo x >> answer.txt",
    "signing": "git config commit.gpgSign true; git config gpg.program $EVIL",
    "include": "printf '[core]\\nfsmonitor = %s\\n' $EVIL > inc; git config include.path $PWD/inc",
    "alternates": "git init -q --bare ../alt.git; git -C ../alt.git config core.fsmonitor $EVIL;"
    " echo $PWD/../alt.git/objects > .git/objects/info/alternates; git config core.alternateRefsCommand $EVIL",
    "bare_inside": "git init -q --bare inner; git -C inner config core.fsmonitor $EVIL;"
    " git -C inner config core.bare false; git -C inner config core.worktree $PWD",
}
CARELESS = {
    "monitor": "git status",
    "hook": "git commit -qam x",
    "hooks_path": "git add -A",
    "git_file": "git status",
    "filter": "git add -A",
    "embedded_monitor": "git status",
    "embedded_filter": "git status",
    "submodule": "git add -A",
    "work_tree": "git status",
    "external_diff": "git diff",
    "signing": "git commit -qam x --allow-empty",
    "include": "git status",
    "alternates": None,  # needs a fetch to run; its other half is that the objects are not the host's
    "bare_inside": "cd inner && git status",
}


@dataclass
class Trap:
    """A work tree to plant in, and the trace that a planted program would leave."""

    workspace: Workspace
    evil: Path
    trace: Path

    def plant(self, script: str) -> None:
        self.run(f"{script}")
        self.trace.unlink(missing_ok=True)  # what ran while planting was the agent's own doing

    def run(self, script: str) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.evil.parent),
            "EVIL": str(self.evil),
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@b",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@b",
        }
        subprocess.run(
            ["sh", "-c", script], cwd=self.workspace.tree, env=environment, capture_output=True, check=False
        )

    def save(self) -> Saved:
        return self.workspace.save(SIGNATURE, work_bytes_max=BYTES_MAX)

    def listing(self, saved: Saved) -> list[str]:
        assert saved.commit is not None
        return git(self.workspace.host, "ls-tree", "-r", saved.commit).splitlines()


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    origin = make_origin(tmp_path / "origin")
    folder = tmp_path / "a1"
    folder.mkdir()
    workspace = Workspace(folder, origin / ".git", git(origin, "rev-parse", "main"))
    workspace.prepare(branch="bzzz/task-7", name="walnut", email="noreply@bzzz.invalid")
    evil, trace = tmp_path / "evil", tmp_path / "trace"
    evil.write_text(f"#!/bin/sh\necho ran >> {trace}\ncat\n")
    evil.chmod(0o755)
    return Trap(workspace, evil, trace)


@pytest.mark.parametrize("plant", [name for name, careless in CARELESS.items() if careless])
def test_the_plant_is_live_for_a_careless_host(trap: Trap, plant: str) -> None:
    trap.plant(PLANTS[plant])
    trap.run(str(CARELESS[plant]))
    assert trap.trace.exists()


@pytest.mark.parametrize("plant", PLANTS)
def test_no_planted_program_runs_when_the_host_saves_and_checks_out(trap: Trap, plant: str) -> None:
    trap.plant(PLANTS[plant])
    (trap.workspace.tree / "answer.txt").write_text("done\n")
    saved = trap.save()
    assert saved.commit is not None
    assert saved.omitted == ()
    trap.workspace.changed(saved.commit)
    proof = trap.workspace.checkout_proof(saved.commit, branch="b", name="walnut", email="e")
    assert (proof / "answer.txt").read_text() == "done\n"
    assert trap.save().commit == saved.commit
    assert not trap.trace.exists()


@pytest.mark.parametrize("plant", PLANTS)
async def test_no_planted_program_runs_in_a_whole_attempt(tmp_path: Path, plant: str) -> None:
    bench = Bench(tmp_path, make_origin(tmp_path / "origin"))
    evil, trace = tmp_path / "evil", tmp_path / "trace"
    evil.write_text(f"#!/bin/sh\necho ran >> {trace}\ncat\n")
    evil.chmod(0o755)
    answer = bench.settings().attempts / "a1/tree/answer.txt"
    script = f"export EVIL={evil}; {PLANTS[plant]}; rm -f {trace}; echo done > {answer}"
    runner = ProcessAgentRunner(bench.settings(), lambda _: None)
    finished = await bench.run(runner, bench.spec("a1", shell(script)))
    assert finished.outcome is Outcome.PROVED
    assert show(finished, "answer.txt") == "done"
    await runner.close()
    assert not trace.exists()


def test_an_embedded_repository_is_committed_as_plain_files_and_its_history_kept_aside(trap: Trap) -> None:
    trap.plant(f"({EMBEDDED})")
    saved = trap.save()
    assert any(line.startswith("100644 blob") and line.endswith("\tsub/x") for line in trap.listing(saved))
    assert not any(line.startswith("160000") for line in trap.listing(saved))
    assert saved.aside == ("sub/.git",)
    assert any((path / "HEAD").exists() for path in trap.workspace.aside.iterdir())


def test_a_link_to_the_outside_is_committed_as_a_link_and_never_followed(trap: Trap, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    (outside / "secret").write_text("hunter2\n")
    trap.plant(f"ln -s {outside} folder; ln -s {outside}/secret file; rm -r src; ln -s {outside} src; mkfifo pipe")
    saved = trap.save()
    listing = trap.listing(saved)
    assert sum(line.startswith("120000") for line in listing) == 3
    assert not any("secret" in line for line in listing)
    assert saved.commit is not None
    proof = trap.workspace.checkout_proof(saved.commit, branch="b", name="walnut", email="e")
    assert (proof / "src").is_symlink()
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert outside.stat().st_mode & 0o777 == 0o500


def test_a_tree_that_was_replaced_by_a_link_is_refused(trap: Trap, tmp_path: Path) -> None:
    shutil.rmtree(trap.workspace.tree)
    trap.workspace.tree.symlink_to(tmp_path)
    with pytest.raises(AgentError, match="is no folder any more"):
        trap.save()


@pytest.mark.parametrize(
    "script",
    [
        "echo '[broken' > .gitmodules",
        "printf '[submodule \"x\"]\\n\\tpath = src\\n\\tignore = wrong\\n' > .gitmodules",
        "printf '\\0\\0[attr]x' > .gitattributes; ln -s /etc/passwd .gitignore",
        "printf 'a * b filter=x diff=y merge=z text\\n* text eol=crlf' > .gitattributes",
        "echo '*.txt working-tree-encoding=UTF-99' > .gitattributes",
        "chmod 000 src; chmod 000 answer.txt",
        "mkfifo answer.pipe; rm src/code.py; mkfifo src/code.py",
        "mkdir -p .GIT 'git~1' 'sub/.git '; touch .GIT/config 'git~1/config' 'sub/.git /x' sub/.gIt",
        "rm -r src; echo file > src",
        "rm answer.txt; mkdir answer.txt; echo x > answer.txt/x",
        "touch ':(exclude)*' ':!x' -- '-rf' 'new\nline' \"$(printf '\\377\\376')\" 'a\\b' '*'",
        "rm -rf .git",
        "git add -A; git commit -qm mine; rm -f .git/HEAD",
        "echo x > .git/index; echo > .git/index.lock",
        "git rm -q --cached answer.txt; git update-index --assume-unchanged src/code.py; echo z > src/code.py",
        "mkdir -p .bzzz/help.md/x; touch .bzzz/help.md/x/y",
    ],
)
def test_whatever_an_agent_does_to_its_tree_its_work_is_saved(trap: Trap, script: str) -> None:
    trap.plant(script)
    (trap.workspace.tree / "kept.txt").write_text("kept\n")
    saved = trap.save()
    assert saved.commit is not None
    assert git(trap.workspace.host, "show", f"{saved.commit}:kept.txt") == "kept"
    assert saved.omitted == ()
    assert trap.save().commit == saved.commit
    git(trap.workspace.host, "-c", "fsck.badTimezone=ignore", "fsck", "--strict", saved.commit)


def test_a_bottomless_folder_is_moved_aside_and_the_rest_is_saved(trap: Trap) -> None:
    folder = os.open(trap.workspace.tree, os.O_RDONLY)
    for _ in range(DEPTH_MAX * 10):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    (trap.workspace.tree / "kept.txt").write_text("kept\n")
    saved = trap.save()
    assert saved.commit is not None
    assert len(saved.aside) == 1
    assert sorted(line.split("\t")[1] for line in trap.listing(saved)) == sorted([*FILES, "kept.txt"])
    remove(trap.workspace.folder)
    assert not trap.workspace.folder.exists()


def test_the_agents_own_commits_are_not_needed_to_find_its_work(trap: Trap) -> None:
    trap.plant("echo done > answer.txt; git commit -qam mine; git checkout -q -b other")
    saved = trap.save()
    assert saved.commit is not None
    assert git(trap.workspace.host, "rev-list", "--count", f"{trap.workspace.base}..{saved.commit}") == "1"


def test_a_half_prepared_tree_is_not_mistaken_for_deletions(trap: Trap) -> None:
    (trap.workspace.folder / "ready").unlink()
    (trap.workspace.tree / "answer.txt").unlink()
    assert trap.save() == Saved(None)


def test_locks_that_a_killed_git_left_do_not_lose_the_work(trap: Trap) -> None:
    (trap.workspace.host / "index.lock").touch()
    (trap.workspace.host / "refs/bzzz").mkdir()
    (trap.workspace.host / "refs/bzzz/work.lock").touch()
    (trap.workspace.tree / "answer.txt").write_text("done\n")
    assert trap.save().commit is not None


def test_a_submodule_of_the_base_is_left_as_it_is(trap: Trap, tmp_path: Path) -> None:
    origin = make_origin(tmp_path / "super")
    git(origin, "update-index", "--add", "--cacheinfo", "160000", "1" * 40, "library")
    git(origin, "commit", "--quiet", "--message=Submodule")
    folder = tmp_path / "a2"
    folder.mkdir()
    workspace = Workspace(folder, origin / ".git", git(origin, "rev-parse", "main"))
    workspace.prepare(branch="b", name="walnut", email="e")
    other = Trap(workspace, trap.evil, trap.trace)
    other.plant(
        "cd library && git init -q && echo x > x && git add x && git commit -qm x"
        " && git config core.fsmonitor $EVIL; cd ..; echo done > answer.txt"
    )
    saved = other.save()
    assert f"160000 commit {'1' * 40}\tlibrary" in other.listing(saved)
    assert not trap.trace.exists()


@pytest.mark.parametrize(
    "name", [".git", ".GIT", "git~1", ".git ", ".git.", ".g\u200cit", ".git::$INDEX_ALLOCATION"]
)
def test_a_name_that_some_file_system_takes_for_git_is_known(name: str) -> None:
    assert is_git_name(name)


@pytest.mark.parametrize("name", ["git", ".gitignore", ".github", "x.git", "git~2", ".gitx"])
def test_a_name_that_is_not_gits_is_left_alone(name: str) -> None:
    assert not is_git_name(name)


def test_git_inherits_nothing_from_the_nodes_environment(
    trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(f"[core]\n\tfsmonitor = {trap.evil}\n[alias]\n\tshown = !{trap.evil}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(trap.evil))
    git_ = Git(trap.workspace.host, trap.workspace.tree)
    assert git_.run("config", "--get", "alias.shown").status == 1
    assert git_.word("rev-parse", "--absolute-git-dir") == str(trap.workspace.host)
    (trap.workspace.tree / "answer.txt").write_text("done\n")
    assert trap.save().commit is not None
    assert not trap.trace.exists()
