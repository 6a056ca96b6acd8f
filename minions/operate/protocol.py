"""The control protocol: lines of JSON between a running system and whoever operates it. Pure: bytes in, requests out.

A client sends requests, one a line, and gets an answer to each, one a line, in the same order::

    {"v": 1, "id": 7, "do": "why", "with": {"component": "average"}}
    {"v": 1, "id": 7, "result": {...}}
    {"v": 1, "id": 8, "error": {"kind": "no-such-component", "text": "..."}}

A line that is no request, or longer than a request may be, is answered with an error, and is the last that is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import attrs

from minions.errors import MinionsError

__all__ = [
    "MOST_ANSWER_BYTES",
    "MOST_REQUEST_BYTES",
    "VERSION",
    "Kind",
    "Lines",
    "Refused",
    "Request",
    "answer_line",
    "answer_of",
    "refusal_line",
    "request_line",
    "request_of",
]

VERSION = 1
MOST_REQUEST_BYTES = 64 << 10
MOST_ANSWER_BYTES = 16 << 20

Kind: TypeAlias = Literal["malformed", "version", "unknown", "arguments", "no-such-component", "failed", "busy"]
"""Why something was refused: no request; of another version; nothing that can be asked; wrong arguments; a component that is not
there; it was tried and has failed; too much at once."""

_MOST_NAME = 100  # characters of what somebody else has sent that are said back
_MOST_ID = 1 << 53  # what every JSON library keeps exactly


class Refused(MinionsError):
    """What was asked for was not done, or not wholly; the text says why.

    Attributes:
        kind: of the reason, for programs.
    """

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@attrs.frozen
class Request:
    """What a client asks for.

    Attributes:
        number: by which the client knows the answer; None where it gave none.
        do: what is asked for.
        arguments: with what.
    """

    number: int | None
    do: str
    arguments: Mapping[str, Any] = attrs.Factory(dict)

    def text(self, name: str) -> str:
        """An argument that has to be a text.

        Raises:
            Refused: it is missing, or is none.
        """
        value = self.arguments.get(name)
        if not isinstance(value, str) or not value:
            raise Refused("arguments", f"{self.do}: {name!r} must be a text, not {_shown(value)}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """An argument that has to be a list of texts; empty where it is missing.

        Raises:
            Refused: it is none.
        """
        value = self.arguments.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise Refused("arguments", f"{self.do}: {name!r} must be a list of texts, not {_shown(value)}")
        return tuple(value)

    def number_of(self, name: str) -> int:
        """An argument that has to be a whole number from 0 up; 0 where it is missing.

        Raises:
            Refused: it is none.
        """
        value = self.arguments.get(name, 0)
        if type(value) is not int or value < 0:
            raise Refused("arguments", f"{self.do}: {name!r} must be a whole number from 0 up, not {_shown(value)}")
        return value


class Lines:
    """Cuts what arrives into lines. It never keeps more than one line may hold, and what came with its end."""

    def __init__(self, most_bytes: int = MOST_REQUEST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._buffer = bytearray()
        self._searched = 0  # so far there is no end of a line

    def feed(self, data: bytes) -> None:
        """Takes what has arrived."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The next whole line without its end; None where it has not come yet.

        Raises:
            Refused: it is longer than a line may be.
        """
        end = self._buffer.find(b"\n", self._searched)
        if (end if end >= 0 else len(self._buffer)) > self._most_bytes:
            self._buffer.clear()
            self._searched = 0
            raise Refused("malformed", f"a line may have {self._most_bytes:,} bytes at most")
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line


def request_of(line: bytes) -> Request:
    """The request that a line holds.

    Raises:
        Refused: it is none, or one of another version.
    """
    found = _object_of(line)
    version = found.get("v")
    if version != VERSION or isinstance(version, bool):
        raise Refused(
            "version",
            f"this system speaks version {VERSION} of the protocol, and was asked in version {_shown(version)}: use the "
            "minions command of the environment that the system runs in",
        )
    number, do, arguments = found.get("id"), found.get("do"), found.get("with", {})
    if number is not None and (type(number) is not int or abs(number) > _MOST_ID):
        raise Refused("malformed", f"'id' must be a whole number, not {_shown(number)}")
    if not isinstance(do, str):
        raise Refused("malformed", f"'do' must be a text, not {_shown(do)}")
    if not isinstance(arguments, dict):
        raise Refused("malformed", f"'with' must be an object, not {_shown(arguments)}")
    return Request(number, do, arguments)


def request_line(request: Request) -> bytes:
    """A request as it is sent."""
    return _line({"v": VERSION, "id": request.number, "do": request.do, "with": dict(request.arguments)})


def answer_line(number: int | None, result: Mapping[str, Any]) -> bytes:
    """An answer as it is sent; a refusal where it would be longer than an answer may be."""
    line = _line({"v": VERSION, "id": number, "result": result})
    if len(line) > MOST_ANSWER_BYTES:
        text = f"the answer has {len(line):,} bytes, and may have {MOST_ANSWER_BYTES:,}: ask for one component"
        return refusal_line(number, Refused("failed", text))
    return line


def refusal_line(number: int | None, refused: Refused) -> bytes:
    """The answer that something was not done."""
    return _line({"v": VERSION, "id": number, "error": {"kind": refused.kind, "text": str(refused)}})


def answer_of(line: bytes, number: int) -> dict[str, Any]:
    """What a line answers to the request of that number.

    Raises:
        Refused: that it was refused; or the line is no answer to it.
    """
    found = _object_of(line)
    error, result = found.get("error"), found.get("result")
    if isinstance(error, dict):
        kind: Kind = error["kind"] if error.get("kind") in get_args(Kind) else "failed"
        raise Refused(kind, str(error.get("text", "")))
    if found.get("v") != VERSION or found.get("id") != number or not isinstance(result, dict):
        raise Refused("version", f"what answers at the control socket is no system of this version: {_shown(found)}")
    return result


def _object_of(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Refused("malformed", f"this is no JSON: {_shown(line)}") from error
    if not isinstance(found, dict):
        raise Refused("malformed", f"this is no JSON object: {_shown(found)}")
    return found


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _MOST_NAME else f"{text[:_MOST_NAME]}..."
