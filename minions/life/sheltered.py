"""A life whose thread an exception may be thrown into, where its component allows that (``async_exception=True``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from minions.flow.calls import Call as RemoteCall
from minions.flow.calls import CallQueue
from minions.flow.channel import Channel
from minions.life.injection import Injection
from minions.life.life import Life
from minions.model.rates import Rate

__all__ = ["ShelteredLife"]


class ShelteredLife(Life):
    """Opens the window around user code, and has the runtime's own code that user code calls run in a shelter.

    Attributes:
        injection: through which the exception comes.
    """

    puts_lanes = False  # they take no shelter

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.injection = Injection()

    def begin(self) -> None:
        super().begin()
        for channel, handler in self._handlers.items():
            self._handlers[channel] = self._in_window(handler)
        self._ticks = {name: self._tick_in_window(tick) for name, tick in self._ticks.items()}

    def _tick_in_window(self, tick: Callable[[], None]) -> Callable[[], None]:
        def make() -> None:
            with self.injection.window():
                tick()

        return make

    def _in_window(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        injection = self.injection

        def handle(message: Any) -> None:
            with injection.window():
                handler(message)

        handle.__name__ = handler.__name__
        return handle

    def _run_called(self, call: RemoteCall) -> Any:
        with self.injection.window():
            return super()._run_called(call)

    def _run(self) -> None:
        with self.injection.window():
            super()._run()

    def _shelter(self) -> AbstractContextManager[None]:
        return self.injection.shelter() if self._is_own_thread() else nullcontext()

    # ------------------------------------------------------------------ what the instance asks
    def sleep(self, seconds: float) -> None:
        with self._shelter():
            super().sleep(seconds)

    def call(
        self,
        queue: CallQueue,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        timeout_s: float | None,
    ) -> Any:
        with self._shelter():
            return super().call(queue, method, arguments, keywords, timeout_s)

    def submit_call(
        self, queue: CallQueue, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Future[Any]:
        with self._shelter():
            return super().submit_call(queue, method, arguments, keywords)

    def keep_pace(self, method: Callable[..., Any], rates: tuple[Rate, ...]) -> None:
        with self._shelter():
            super().keep_pace(method, rates)

    def commit(self, timeout_s: float | None) -> None:
        with self._shelter():
            super().commit(timeout_s)

    def after_commit(self, function: Callable[[], object]) -> None:
        with self._shelter():
            super().after_commit(function)

    @contextmanager
    def unit(self) -> Iterator[None]:
        with self._shelter():
            unit = super().unit()
            unit.__enter__()
        with self._left_in_shelter(unit):
            yield

    @contextmanager
    def _left_in_shelter(self, unit: AbstractContextManager[None]) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # whatever the block raises is handed on to the unit, as `with` would
            with self._shelter():
                unit.__exit__(type(error), error, error.__traceback__)
            raise
        with self._shelter():
            unit.__exit__(None, None, None)

    def send(
        self, channels: tuple[Channel, ...], message: Any, shared: bool, stored: bytes | None, timeout_s: float | None
    ) -> None:
        with self._shelter():
            super().send(channels, message, shared, stored, timeout_s)

    def receive(self, channel: Channel, timeout_s: float | None) -> Any:
        with self._shelter():
            return super().receive(channel, timeout_s)
