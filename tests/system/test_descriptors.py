"""No file descriptor is free, while a system runs and when it starts: commits go on, and a start that cannot be says why."""

from __future__ import annotations

import re

from tests.system.conftest import Launch

HOG = """
    import resource

    class Hog:
        "Opens files until no descriptor is free."

        def __init__(self):
            self.held = []

        def take_all(self, leaving=0):
            try:
                while True:
                    self.held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                for descriptor in [self.held.pop() for _ in range(leaving)]:
                    os.close(descriptor)

        def let_go(self):
            for descriptor in self.held:
                os.close(descriptor)
            self.held.clear()

    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    hog = Hog()
"""


def test_commits_need_no_further_descriptor_however_large_they_are(launch: Launch) -> None:
    child = launch(
        HOG
        + """
    @attrs.frozen
    class Parcel:
        value: int
        text: str

    class Sending(Component):
        out = Outbox(Parcel)
        sent = State(int)

        def run(self):
            self.commit()
            hog.take_all()
            for _ in range(3):
                with self.unit():
                    for _ in range(300):
                        self.out.send(Parcel(self.sent, str(self.sent) * 3_000))
                        self.sent += 1
                self.commit()
            say("committed")
            all_sent.set()

    class Keeping(Component):
        parcels = Inbox(Parcel, capacity=1_000)
        values = State(list[int])

        @parcels.handler
        def keep(self, parcel):
            if not self.values:
                all_sent.wait(20)  # so that all of them come to be on disk
            self.values.append(parcel.value)

    all_sent = threading.Event()
    sending, keeping = system.add(Sending()), system.add(Keeping())
    system.connect(sending.out, keeping.parcels)
    say(system.run())
    hog.let_go()
    say(str(keeping.values == list(range(900))))
    """
    )
    ended = child.end()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["committed", "finished", "True"]
    assert "WARNING" not in ended.stderr


def test_a_start_without_a_free_descriptor_is_refused_in_one_sentence_and_harms_nothing(launch: Launch) -> None:
    child = launch(
        HOG
        + """
    def system_over(folder, count):
        system = System("test", folder=os.path.join(os.path.dirname(__file__), folder))
        numbers, kept = system.add(Numbers(count=count)), system.add(Kept())
        system.connect(numbers.out, kept.numbers)
        return system, kept

    logging.basicConfig(level=logging.CRITICAL)
    for folder in ("old", "warm"):  # everything is imported, and one folder has a store
        system_over(folder, 10)[0].run()

    for folder in ("new", "old"):
        system, kept = system_over(folder, 20)
        for leaving in range(20):
            hog.take_all(leaving)
            try:
                outcome = system.run()
            except SystemExit as refusal:
                outcome = str(refusal)
            hog.let_go()
            say(f"{folder} {outcome}")
            if outcome == "finished":
                break
        say(f"{folder} {kept.values == list(range(20))}")
    """
    )
    ended = child.end()
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    for folder in ("new", "old"):
        *refusals, finished, complete = [line.removeprefix(f"{folder} ") for line in lines if line.startswith(folder)]
        assert (finished, complete) == ("finished", "True")
        assert len(refusals) > 4
        for refusal in refusals:
            assert re.fullmatch(
                r"test: (cannot start: .*Too many open files; raise the limit on open files \(ulimit -n\)"
                r"|cannot use \S+: no file descriptor is free \(.*\); let some be closed, or raise the limit .*\(ulimit -n\))",
                refusal,
            ), refusal
