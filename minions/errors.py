"""Every error of the runtime, in one tree. No thread, no lock.

MinionsError
├── DeclarationError          a component class cannot be what it says (raised when the class is defined)
├── TopologyError             the system cannot run as it is wired; lists every problem at once
├── ConfigurationError        settings that cannot be, in minions.toml or in code; lists every problem at once (also a ValueError)
├── SystemFailed              the running system ended and not in order
├── ChangeFailed              what was wished of a component did not come about
├── PluginRefused             a plugin is not what a plugin must be (also a TypeError)
├── UsageError                a method was called where it cannot work (also a RuntimeError)
├── MessageRefused            a value that an outbox does not carry (also a TypeError)
├── UnitTooLarge              one unit holds more than may ever be admitted
├── InboxFull                 no room within the timeout (also a TimeoutError)
├── InboxEmpty                no message within the timeout (also a TimeoutError)
├── CallFailed                a call was not answered
│   ├── CallTimeout           not within its time (also a TimeoutError)
│   └── DeadlockError         never: those that it waits for wait for each other
├── CommitTimeout             not on disk within the timeout (also a TimeoutError)
├── CrashRefused              a recorded crash cannot be replayed here, or came to something that was not recorded
├── NoSuchDeadLetter          no dead letter has that id, or not any more (also a LookupError)
├── CodecError
│   ├── CannotEncode          a value that would not survive being stored
│   ├── CannotDecode          stored bytes that are not what the class says
│   └── CannotStore           a class that no codec can keep (reported by check())
└── StoreError
    ├── StoreLocked           another process, or another system here, has the folder
    ├── StoreUnusable         the folder cannot be created, read or written
    ├── StoreDamaged          what is on disk is not what was written
    ├── StoreTooNew           written by a later version of the format
    └── CommitFailed          rows were not committed; says whether to try them again

BaseException
├── Interrupted               thrown into a handler that hangs in pure Python, where the component allows it
├── StaleComponent            in the thread of an abandoned life, at its next door
└── StopRequested             in the thread of a life that was asked to stop and goes on sending

These three are no ``Exception``: user code that catches ``Exception`` must not swallow them.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CallFailed",
    "CallTimeout",
    "CannotDecode",
    "CannotEncode",
    "CannotStore",
    "ChangeFailed",
    "CodecError",
    "CommitFailed",
    "CommitTimeout",
    "ConfigurationError",
    "CrashRefused",
    "DeadlockError",
    "DeclarationError",
    "InboxEmpty",
    "InboxFull",
    "Interrupted",
    "MessageRefused",
    "MinionsError",
    "NoSuchDeadLetter",
    "PluginRefused",
    "StaleComponent",
    "StopRequested",
    "StoreDamaged",
    "StoreError",
    "StoreLocked",
    "StoreTooNew",
    "StoreUnusable",
    "SystemFailed",
    "TopologyError",
    "UnitTooLarge",
    "UsageError",
]


class MinionsError(Exception):
    """The root of all errors that the runtime raises."""


class DeclarationError(MinionsError, TypeError):
    """A component class was refused when it was defined.

    Attributes:
        component: the name of the class.
        problems: one sentence for each problem, with what to do.
    """

    def __init__(self, component: str, problems: Sequence[str]) -> None:
        super().__init__(_listed(f"component class {component} was refused", problems))
        self.component = component
        self.problems = tuple(problems)


class TopologyError(MinionsError):
    """The system was refused by `check()`, before anything was started.

    Attributes:
        system: the name of the system.
        problems: one sentence for each problem: which component, which port, what to do.
    """

    def __init__(self, system: str, problems: Sequence[str]) -> None:
        super().__init__(_listed(f"system {system!r} cannot run", problems))
        self.system = system
        self.problems = tuple(problems)


class ConfigurationError(MinionsError, ValueError):
    """Settings were refused, before anything was started.

    Attributes:
        subject: the path of the file, or the name of the class.
        problems: one sentence for each problem: where, which value, what to write instead.
    """

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        super().__init__(_listed(f"{subject} was refused", problems))
        self.subject = subject
        self.problems = tuple(problems)


class SystemFailed(MinionsError):
    """The running system has ended, and not in order; everything that was committed is kept."""


class ChangeFailed(MinionsError):
    """What was wished of a component has not come about: it was given up, or somebody wished otherwise, or the system stops."""


class PluginRefused(MinionsError, TypeError):
    """A plugin was not registered: it has a hook that does not exist or cannot be called, no hook at all, or the name of another.

    Attributes:
        plugin: its name.
        problems: one sentence for each problem, with what to do.
    """

    def __init__(self, plugin: str, problems: Sequence[str]) -> None:
        super().__init__(_listed(f"plugin {plugin} was refused", problems))
        self.plugin = plugin
        self.problems = tuple(problems)


class UsageError(MinionsError, RuntimeError):
    """A method was called where it cannot work; the message says where it can."""


class MessageRefused(MinionsError, TypeError):
    """A value was sent that the outbox does not carry; nothing of it was sent."""


class UnitTooLarge(MinionsError, ValueError):
    """One unit of work sends more than may ever be admitted at once, or waits for more than its inbox holds; it never was."""


class InboxFull(MinionsError, TimeoutError):
    """An inbox had no room within the timeout; the message was not sent."""


class InboxEmpty(MinionsError, TimeoutError):
    """There was no message within the timeout."""


class CallFailed(MinionsError):
    """A call was not answered: the component that is called is down for good, or its life has ended in the middle.

    What its method raises itself arrives as it is.
    """


class CallTimeout(CallFailed, TimeoutError):
    """A call was not answered within its time. Where it had begun it goes on, and the answer is dropped."""


class DeadlockError(CallFailed):
    """A call could never be answered, because those that it waits for wait for each other.

    Attributes:
        components: the circle, each waiting for the next and the last for the first.
    """

    def __init__(self, message: str, components: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.components = tuple(components)


class CommitTimeout(MinionsError, TimeoutError):
    """Not everything was on disk within the timeout; it may be there a moment later."""


class CrashRefused(MinionsError):
    """A recorded crash cannot be replayed: the file is none, its class is gone, or the replay came to what was not recorded."""


class NoSuchDeadLetter(MinionsError, LookupError):
    """No dead letter has that id, or another caller was first to retry or drop it; nothing was done.

    Attributes:
        message_ids: those of which there is none.
    """

    def __init__(self, message: str, message_ids: Sequence[str]) -> None:
        super().__init__(message)
        self.message_ids = tuple(message_ids)


class CodecError(MinionsError):
    """A value or a class that does not survive being stored."""


class CannotEncode(CodecError, ValueError):
    """A value was not stored because it could not be loaded again as it is."""


class CannotDecode(CodecError, ValueError):
    """Stored bytes are not what the class says; the message has the path to the part that differs."""


class CannotStore(CodecError, TypeError):
    """A class has a part that cannot be kept; the message names class, field and remedy."""


class StoreError(MinionsError):
    """What is wrong with a state folder, and what can be done. Nothing in it was overwritten."""


class StoreLocked(StoreError):
    """The folder is in use.

    Attributes:
        pid: the process that holds it, or None where it cannot be told.
    """

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class StoreUnusable(StoreError):
    """The folder cannot be created, read or written, or the disk is full."""


class StoreDamaged(StoreError):
    """What is on disk is not what was written: a checksum, a missing commit, a malformed database."""


class StoreTooNew(StoreError):
    """The folder was written by a later version of the format, of a state or of a message."""


class CommitFailed(StoreError):
    """A commit was rolled back, and nothing of it is to be seen.

    Attributes:
        permanent: whether the same rows will fail again. A full disk, an I/O error or a foreign lock may pass.
    """

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Interrupted(BaseException):
    """Thrown by the runtime into a handler that makes no progress in pure Python, where the component was declared to bear that.

    It comes between any two steps of the handler, also inside of a library: a lock may stay locked, a `finally` block half-run.
    The handler's unit of work is forgotten. It is never thrown outside of a handler, and at most once into a life.
    """


class StaleComponent(BaseException):
    """Raised in the thread of an abandoned life at whatever it asks of the runtime next."""


class StopRequested(BaseException):
    """Raised by `send` and `unit` in a source that was asked to stop and has not ended within its grace."""


def _listed(headline: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{headline}: {problems[0]}"
    lines = "".join(f"\n  {number}. {problem}" for number, problem in enumerate(problems, 1))
    return f"{headline}, {len(problems)} problems:{lines}"
