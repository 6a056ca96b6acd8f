"""Child processes: one `tail` that follows a list of files, and a `sha256sum` for each file, four at a time."""

import os
from subprocess import PIPE, Popen

import attrs

from minions import Component, Inbox, Outbox, State, System


@attrs.frozen
class Digest:
    path: str
    sha256: str


class List(Component):
    path: str = "files.txt"
    position = State(int)
    files = Outbox(str)

    def run(self) -> None:
        follow = ["tail", f"-n+{self.position + 1}", "-F", f"--pid={os.getpid()}", self.path]
        with Popen(follow, stdout=PIPE, text=True) as child, self.blocking(child):  # a stop ends the child
            for line in child.stdout or ():
                with self.unit():  # the file and the position: both, or neither
                    self.files.send(line.strip())
                    self.position += 1


class Digester(Component):
    files = Inbox(str)
    digests = Outbox(Digest)

    @files.handler
    def digest(self, path: str) -> None:
        with Popen(["sha256sum", path], stdout=PIPE, text=True) as child, self.blocking(child):
            output, _ = child.communicate()
        if child.returncode != 0:
            raise RuntimeError(f"sha256sum {path} has ended with {child.returncode}")  # tried again, then a dead letter
        self.digests.send(Digest(path, output.split()[0]))


class Catalogue(Component):
    digests = Inbox(Digest)
    found = State(dict[str, list[str]])

    @digests.handler
    def keep(self, digest: Digest) -> None:
        self.found.setdefault(digest.path, []).append(digest.sha256)
        print("digest of", digest.path, flush=True)


if __name__ == "__main__":
    system = System("digests")
    files, digester, catalogue = system.add(List()), system.add(Digester(), replicas=4), system.add(Catalogue())
    system.connect(files.files, digester.files)
    system.connect(digester.digests, catalogue.digests)
    system.run()
    print("\n".join(f"{path} {' '.join(digests)}" for path, digests in sorted(catalogue.found.items())))
