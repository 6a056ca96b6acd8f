"""Counts the words of each file that appears in a folder, told by watchdog on a thread of its own. Each file counts once."""

from pathlib import Path

import attrs
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from minions import Component, Inbox, Outbox, System, Table


@attrs.frozen
class File:
    name: str


class Folder(Component):
    path: str = "incoming"
    files = Outbox(File)

    def run(self) -> None:
        folder = Path(self.path)
        folder.mkdir(exist_ok=True)
        observer = Observer()
        observer.schedule(Moved(self), self.path)
        observer.start()
        with self.blocking(observer, wake=observer.stop):
            for path in sorted(folder.glob("*.txt")):  # what came while nobody watched; some of it was counted before
                self.files.send(File(path.name))
            observer.join()


class Moved(FileSystemEventHandler):
    """A file is written under another name and then renamed, so that it is whole. Runs on the thread of watchdog."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def on_moved(self, event: FileSystemEvent) -> None:
        self._folder.files.send(File(Path(str(event.dest_path)).name))


class Counter(Component):
    path: str = "incoming"
    files = Inbox(File)
    words = Table(str, int)  # by the name of the file

    @files.handler
    def count(self, file: File) -> None:
        if file.name.endswith(".txt") and file.name not in self.words:
            self.words[file.name] = len((Path(self.path) / file.name).read_text(encoding="utf-8").split())
            print("file", file.name, flush=True)


if __name__ == "__main__":
    system = System("folder")
    folder, counter = system.add(Folder()), system.add(Counter())
    system.connect(folder.files, counter.files)
    system.run()
    print(f"{len(counter.words)} files, {sum(counter.words.values())} words")
