"""Which pushes the forge carries out by itself: those of one claim that git would take too, and no others."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.bare_repository import git, try_git

from bzzz.core.record import RECORD_BYTES_MAX
from bzzz.forge.embedded.claim_push import CLAIM_PUSH_BYTES_MAX, read_claim_push
from bzzz.forge.embedded.pktline import ZERO_ID, read_accepted
from bzzz.gitformat.pack import GitObject, Kind, build_pack
from bzzz.gitformat.pktline import encode

REF = "refs/bzzz/claims/7"
CAPABILITIES = "report-status side-band-64k object-format=sha1 agent=bzzz/1.0"
OLD = "a" * 40
PERSON = "walnut <peer@bzzz.invalid> 1767225600 +0000"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A push's parts, each of which a test may make another."""

    ref: str = REF
    old: str = ZERO_ID
    new: str = ""
    capabilities: str = CAPABILITIES
    blob: bytes = b'{"task": "acme/widgets#7"}'
    entry: bytes = b"100644 claim.json"
    more_entries: bytes = b""
    parents: tuple[str, ...] = ()
    author: str = PERSON
    committer: str = PERSON
    message: bytes = b"\nheld by walnut\n"
    without: int | None = None
    beside: tuple[GitObject, ...] = ()

    def objects(self) -> list[GitObject]:
        blob = GitObject(Kind.BLOB, self.blob)
        tree = GitObject(Kind.TREE, self.entry + b"\0" + bytes.fromhex(blob.id) + self.more_entries)
        lines = [f"tree {tree.id}", *(f"parent {parent}" for parent in self.parents)]
        lines += [f"author {self.author}", f"committer {self.committer}", ""]
        return [blob, tree, GitObject(Kind.COMMIT, "\n".join(lines).encode() + self.message)]

    def body(self) -> bytes:
        objects = self.objects()
        new = self.new or objects[-1].id
        if self.without is not None:
            del objects[self.without]
        command = f"{self.old} {new} {self.ref}\0 {self.capabilities}".encode()
        return encode(command) + b"0000" + build_pack([*objects, *self.beside])


def test_a_first_claim_is_read_with_its_objects_in_the_order_to_store_them() -> None:
    push = read_claim_push(Claim().body())
    assert push is not None
    assert push.objects == tuple(Claim().objects())
    assert (push.update.ref, push.update.old, push.update.new) == (REF, ZERO_ID, push.objects[-1].id)
    assert read_accepted(push.report()) == {REF}


def test_a_claim_that_follows_another_is_read() -> None:
    push = read_claim_push(Claim(old=OLD, parents=(OLD,)).body())
    assert push is not None
    assert push.update.old == OLD


def test_the_largest_record_is_read_however_little_it_can_be_compressed() -> None:
    letters = random.Random(7).choices("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_", k=10**5)
    body = Claim(blob="".join(letters)[:RECORD_BYTES_MAX].encode()).body()
    assert len(body) < CLAIM_PUSH_BYTES_MAX
    assert read_claim_push(body) is not None


OTHERS = {
    "another ref": Claim(ref="refs/heads/main"),
    "a rescue": Claim(ref="refs/bzzz/rescue/7/1"),
    "a claim of no issue": Claim(ref="refs/bzzz/claims/0"),
    "a number in another spelling": Claim(ref="refs/bzzz/claims/07"),
    "a path out of the repository": Claim(ref="refs/bzzz/claims/../../../x"),
    "a second line in the ref": Claim(ref=f"{REF}\ndelete refs/heads/main"),
    "a deletion": Claim(new=ZERO_ID),
    "a push that must be atomic": Claim(capabilities=CAPABILITIES + " atomic"),
    "push options": Claim(capabilities=CAPABILITIES + " push-options"),
    "another kind of report": Claim(capabilities="report-status-v2 side-band-64k object-format=sha1"),
    "no report": Claim(capabilities="side-band-64k"),
    "no side band": Claim(capabilities="report-status"),
    "another kind of object names": Claim(capabilities="report-status side-band-64k object-format=sha256"),
    "a commit that is not in the pack": Claim(new=OLD),
    "an old value that is not the parent": Claim(old=OLD, parents=("b" * 40,)),
    "a parent where nothing stood": Claim(parents=(OLD,)),
    "no parent where something stood": Claim(old=OLD),
    "two parents": Claim(old=OLD, parents=(OLD, "b" * 40)),
    "another file": Claim(entry=b"100644 README"),
    "a symbolic link": Claim(entry=b"120000 claim.json"),
    "a submodule": Claim(entry=b"160000 claim.json"),
    "a second file": Claim(more_entries=b"100644 x\0" + b"a" * 20),
    "no blob": Claim(without=0),
    "no tree": Claim(without=1),
    "no commit": Claim(without=2),
    "a fourth object": Claim(beside=(GitObject(Kind.BLOB, b"x"),)),
    "a record that is no text": Claim(blob=b"\xff\xfe"),
    "a record above the bound": Claim(blob=b"x" * (RECORD_BYTES_MAX + 1)),
    "a commit that is no text": Claim(message=b"\n\xff\n"),
    "a NUL in the message": Claim(message=b"\na\0b\n"),
    "further headers": Claim(message=b"gpgsig x\n\nheld\n"),
    "no message at all": Claim(message=b""),
    "an author without an address": Claim(author="walnut 0 +0000"),
    "an author within an author": Claim(author="a <b <c> 0 +0000"),
    "a date of zeros": Claim(committer="a <b> 007 +0000"),
    "a date beyond time": Claim(committer=f"a <b> {10**20} +0000"),
    "no time zone": Claim(committer="a <b> 0"),
}


@pytest.mark.parametrize("what", sorted(OTHERS))
def test_a_push_of_anything_else_is_left_to_git(what: str) -> None:
    assert read_claim_push(OTHERS[what].body()) is None


def test_two_commands_are_left_to_git() -> None:
    objects = Claim().objects()
    first = encode(f"{ZERO_ID} {objects[-1].id} {REF}\0 {CAPABILITIES}".encode())
    second = encode(f"{ZERO_ID} {objects[-1].id} refs/bzzz/claims/8".encode())
    assert read_claim_push(first + second + b"0000" + build_pack(objects)) is None


@given(st.data())
def test_a_claim_with_a_changed_byte_or_a_lost_end_is_left_to_git_unless_only_its_agent_is_another(
    data: st.DataObject,
) -> None:
    body = bytearray(Claim().body())
    if data.draw(st.booleans()):
        assert read_claim_push(bytes(body[: data.draw(st.integers(0, len(body) - 1))])) is None
        return
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    push = read_claim_push(bytes(body))
    if push is not None:
        whole = read_claim_push(Claim().body())
        assert whole is not None
        assert push.objects == whole.objects
        assert bytes(body).index(b"\0") < at < bytes(body).index(b"0000PACK") or push.update != whole.update


@given(st.binary(max_size=300))
def test_garbage_is_left_to_git(body: bytes) -> None:
    assert read_claim_push(body) is None
    assert read_claim_push(encode(f"{ZERO_ID} {OLD} {REF}\0{CAPABILITIES}".encode()) + b"0000" + body) is None


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strict")
    git(folder, "init", "-q", "--bare", "--object-format=sha1", str(folder))
    return folder


# People as they should be and a little beside that, so that a third of them is taken.
_NAMES = st.lists(st.sampled_from(["a", "b@c", " ", ".", "\t", "\r", "é", "=?"]), min_size=1, max_size=3).map(
    "".join
)
_WRONG = [
    " <a> 0 +0000",
    "<a> 0 +0000",
    "a <b> 007 +0000",
    "a <b> -1 +0000",
    f"a <b> {10**19} +0000",
    "a <b> 0 0000",
]
_RIGHT = st.builds(
    "{} <{}> {} {}".format, _NAMES, _NAMES, st.integers(0, 10**12), st.sampled_from(["+0000", "-0130"])
)
people = _RIGHT | _RIGHT | st.sampled_from([*_WRONG, "a < <b> 0 +0000", "a <b>> 0 +0000", "a<b> 0 +0000"])


@settings(max_examples=60)
@given(people, people, st.text(max_size=20), st.text(min_size=1, max_size=40))
def test_what_the_forge_takes_git_would_have_taken(
    bare: Path, author: str, committer: str, message: str, record: str
) -> None:
    """Held against git itself, with the checks that it makes of what strangers push."""
    claim = Claim(author=author, committer=committer, message=b"\n" + message.encode(), blob=record.encode())
    if read_claim_push(claim.body()) is None:
        return
    checked = try_git(bare, "index-pack", "--stdin", "--strict", stdin=build_pack(claim.objects()))
    assert checked.returncode == 0, checked.stderr
