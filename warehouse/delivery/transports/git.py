"""A results store in a git repository: each host commits to its own branch, machine-<host>, and pushes it.

Nothing is checked out: bundles become blobs in this host's bare copy of the repository, and trees are built from them.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from common import proxies
from common.environment import HOST_PATTERN
from common.files import locked_file, write_whole
from common.limits import MAX_REPORT_BYTES
from common.urls import without_secrets
from warehouse.delivery.transports import ssh
from warehouse.delivery.transports.protocol import HOSTS, INBOX, NAME, REPORT, Transport, UnreachableError, last_line

GIT_S = 1800.0  # a first fetch of some gigabytes on a slow line
PUSHES = 8  # attempts, while other processes of this host push as well
BRANCH = "machine-"
SEEN = "refs/machines/"  # the store's branches as of the last fetch
TAKEN = "refs/taken/"  # the commit up to which each branch was ingested
REWRITTEN = "refs/rewritten/"  # a branch before somebody rewrote it, until it is ingested
PAST = "refs/past/"  # the same, afterwards
LOST_THE_RACE = re.compile(r"non-fast-forward|fetch first|cannot lock ref|failed to update ref|stale info")
# Lines that git adds to every failure of a connection.
ADDED = re.compile(
    r"fatal: Could not read from remote|Please make sure|and the repository exists|hint:|To |error: failed to push"
)
# Only these protocols, no hooks, and fetched objects are checked.
SETTINGS = (
    "protocol.allow=never protocol.file.allow=always protocol.ssh.allow=always protocol.https.allow=always "
    "core.hooksPath=/dev/null commit.gpgSign=false fetch.fsckObjects=true init.defaultBranch=main maintenance.auto=false"
).split()


class Entry(NamedTuple):
    """A file of a commit."""

    path: str
    blob: str


class Git(Transport):
    """Branches machine-<host> of a repository that every host can push to."""

    kind = "git"

    def __init__(self, url: str, host: str, state: Path) -> None:
        self.where = without_secrets(f"git+{url}")
        self._url, self._host = url, host
        self._folder = state / "git"

    def send(self, bundles: Sequence[Path]) -> dict[str, str]:
        failed, entries = {}, []
        with self._exclusive():
            for path in bundles:
                done = self._git("hash-object", "-w", "--", str(path))
                if done.returncode:
                    failed[path.name] = "not a plain file that can be read"
                else:
                    entries.append(Entry(f"{INBOX}/{path.name}", done.stdout.decode().strip()))
            if entries:
                self._push(entries, f"{len(entries)} bundles of {self._host}")
        return failed

    def has(self, unit_id: str) -> bool:
        with self._exclusive():
            self._fetch()
            return any(self._listed(tip, f"{INBOX}/{unit_id}.") for tip in self._refs(SEEN).values())

    def fetch(self, inbox: Path) -> list[str]:
        notes = []
        with self._exclusive():
            self._fetch()
            taken = self._refs(TAKEN)
            # First branches as they were before they were rewritten: some of it may not be ingested yet.
            for name, old in self._refs(REWRITTEN, hosts=False).items():
                self._take(old, taken.get(name.partition("/")[0]), inbox)
                self._checked("update-ref", f"{PAST}{name}", old)
                self._checked("update-ref", "-d", f"{REWRITTEN}{name}")
                what = "was rewritten or deleted; all that it held is ingested, and saved as"
                notes.append(f"{BRANCH}{name.partition('/')[0]} {what} {PAST}{name}")
            for host, tip in self._refs(SEEN).items():
                if taken.get(host) != tip:
                    self._take(tip, taken.get(host), inbox)
                    # Only now: after a crash they are fetched once more, which does no harm.
                    self._checked("update-ref", f"{TAKEN}{host}", tip)
        return notes

    def _take(self, tip: str, taken: str | None, inbox: Path) -> None:
        """Write the bundles of a commit that are not in an earlier one into `inbox`."""
        known = set(self._listed(taken, f"{INBOX}/")) if taken else set()
        for path, blob in self._listed(tip, f"{INBOX}/"):
            name = path.rpartition("/")[2]
            if (path, blob) not in known and NAME.fullmatch(name):
                write_whole(inbox / name, self._blob(blob))

    def put(self, folder: str, name: str, content: bytes) -> None:
        path = f"{folder}/{name}"
        with self._exclusive():
            blob = self._checked("hash-object", "-w", "--stdin", stdin=content).strip()
            own = self._refs(SEEN).get(self._host)
            if not own or (path, blob) not in self._listed(own, path):
                self._push([Entry(path, blob)], path)

    def get(self, folder: str, name: str) -> bytes | None:
        with self._exclusive():
            self._fetch()
            for tip in self._refs(SEEN).values():
                for _, blob in self._listed(tip, f"{folder}/{name}"):
                    return self._blob(blob)
        return None

    def reports(self) -> dict[str, bytes]:
        """Return host -> report; a report counts only in the host's own branch."""
        found = {}
        with self._exclusive():
            self._fetch()
            for host, tip in self._refs(SEEN).items():
                for path, blob in self._listed(tip, f"{HOSTS}/"):
                    named = REPORT.fullmatch(path.rpartition("/")[2])
                    if named and named[1] == host:
                        found[host] = self._blob(blob)[: MAX_REPORT_BYTES + 1]
        return found

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Use this LAB_HOME's copy of the repository alone; it is made when missing."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        with locked_file(self._folder.with_suffix(".lock")):
            if not (self._folder / "HEAD").is_file():
                self._checked("init", "--quiet", "--bare", "--", str(self._folder))
            yield

    def _push(self, entries: Sequence[Entry], message: str) -> None:
        """Commit entries onto this host's branch and push it.

        Raises:
            UnreachableError: the store does not take it.
        """
        branch = f"refs/heads/{BRANCH}{self._host}"
        for _ in range(PUSHES):
            self._fetch()
            commit = self._commit(entries, self._parents(branch), message)
            done = self._git("push", "--quiet", "--", self._url, f"{commit}:{branch}")
            if done.returncode == 0:
                self._checked("update-ref", branch, commit)
                self._checked("update-ref", f"{SEEN}{self._host}", commit)
                return
            # If another process of this host was faster: once more on top of its commit.
            if not LOST_THE_RACE.search(done.stderr.decode(errors="replace")):
                break
        raise self._refused(done)

    def _parents(self, branch: str) -> list[str]:
        """Return the store's branch and ours, or only the one that contains the other; a rewritten branch gets ours back."""
        theirs, mine = self._refs(SEEN).get(self._host), self._refs("refs/heads/", hosts=False).get(branch[11:])
        both = [c for c in dict.fromkeys((theirs, mine)) if c]
        return [c for c in both if not any(c != other and self._holds(other, c) for other in both)]

    def _holds(self, tip: str, older: str) -> bool:
        return self._git("merge-base", "--is-ancestor", older, tip).returncode == 0

    def _commit(self, entries: Sequence[Entry], parents: Sequence[str], message: str) -> str:
        """Make a commit of all that the parents hold, and the entries."""
        scratch = self._folder / "lab-index"
        scratch.unlink(missing_ok=True)
        held = dict([*(entry for parent in parents for entry in self._listed(parent, "")), *entries])
        lines = "".join(f"100644 {blob}\t{path}\n" for path, blob in sorted(held.items()))
        self._checked("update-index", "--add", "--index-info", stdin=lines.encode(), index=scratch)
        tree = self._checked("write-tree", index=scratch).strip()
        above = [word for parent in parents for word in ("-p", parent)]
        return self._checked("commit-tree", tree, *above, "-m", message).strip()

    def _fetch(self) -> None:
        """Fetch the branches of all hosts; one that was rewritten or deleted is saved as it was."""
        before = self._refs(SEEN)
        refs = f"+refs/heads/{BRANCH}*:{SEEN}*"
        done = self._git("fetch", "--quiet", "--no-tags", "--prune", "--", self._url, refs)
        if done.returncode:
            raise self._refused(done)
        after = self._refs(SEEN)
        for host, old in before.items():
            new = after.get(host)
            if new != old and not (new and self._holds(new, old)):
                self._checked("update-ref", f"{REWRITTEN}{host}/{old}", old)

    def _refs(self, prefix: str, hosts: bool = True) -> dict[str, str]:
        """Return what follows the prefix -> commit; with `hosts`, only host names."""
        lines = self._checked("for-each-ref", "--format=%(objectname) %(refname)", "--", prefix).splitlines()
        found = {ref.removeprefix(prefix): commit for commit, _, ref in (line.partition(" ") for line in lines)}
        return {n: c for n, c in found.items() if HOST_PATTERN.fullmatch(n)} if hosts else found

    def _listed(self, commit: str, prefix: str) -> list[Entry]:
        """Return the plain files of a commit whose path begins with `prefix`."""
        found = []
        for row in filter(None, self._checked("ls-tree", "-r", "-z", "--full-tree", commit).split("\0")):
            about, _, path = row.partition("\t")
            mode, kind, blob = about.split(" ")
            if kind == "blob" and mode.startswith("100") and path.startswith(prefix):
                found.append(Entry(path, blob))
        return found

    def _blob(self, blob: str) -> bytes:
        done = self._git("cat-file", "blob", blob)
        if done.returncode:
            raise self._refused(done)
        return done.stdout

    def _checked(self, *arguments: str, stdin: bytes = b"", index: Path | None = None) -> str:
        """Run git on this host's copy and return its output.

        Raises:
            UnreachableError: git fails, for example since the disk is full.
        """
        done = self._git(*arguments, stdin=stdin, index=index)
        if done.returncode:
            reason = last_line(done.stderr.decode(errors="replace"))
            raise UnreachableError(f"git {arguments[0]}: {reason}", f"see {self._folder}")
        return done.stdout.decode(errors="surrogateescape")

    def _git(self, *arguments: str, stdin: bytes = b"", index: Path | None = None) -> ssh.Done:
        passed = ("GIT_SSL_CAINFO", "GIT_ASKPASS")
        own = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in passed}
        own |= proxies.left_out()  # git knows more kinds of proxies
        own |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": shlex.join(ssh.command())}
        for role in ("AUTHOR", "COMMITTER"):
            own |= {f"GIT_{role}_NAME": self._host, f"GIT_{role}_EMAIL": f"{self._host}@lab.invalid"}
        if index is not None:
            own["GIT_INDEX_FILE"] = str(index)
        where = [] if arguments[0] == "init" else [f"--git-dir={self._folder}"]
        settings = [word for setting in SETTINGS for word in ("-c", setting)]
        command = [ssh.needed("git"), *where, *settings, *arguments]
        return ssh.run(command, timeout_s=GIT_S, stdin=stdin, environment=own)

    def _refused(self, done: ssh.Done) -> UnreachableError:
        output = done.stderr.decode(errors="replace")
        lines = [line for line in output.splitlines() if line.strip() and not ADDED.match(line)]
        host = urlsplit(self._url).hostname or "this machine"
        # The first line says most, except for the banner of a changed host key.
        whole = ssh.UNKNOWN_KEY.search(output) or not lines
        return ssh.unreachable(self.where, host, output if whole else lines[0])
