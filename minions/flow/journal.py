"""The journal: where units become whole. It owns the one lock under which messages, acknowledgements and state change hands.

No thread of its own, and it never waits: where there is no room it hands out a ticket, and the caller waits, outside the
lock. One lock for a whole system, because a unit touches several channels at once and has to be seen whole or not at all;
what is done under it is a few dictionary and deque operations. Only a unit of one message that is not durable needs no lock:
it goes along a lane, while room lasts that was lent under the lock.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice, zip_longest

from minions.clock import Clock, Parkable
from minions.errors import InboxFull, StopRequested, UsageError
from minions.fence import Fence, Mode
from minions.flow import rows
from minions.flow.call_broker import CallBroker
from minions.flow.calls import Answer, CallQueue
from minions.flow.channel import Channel, Entry, Reader, Ticket, Wakes
from minions.flow.group_commit import GroupCommit
from minions.flow.histogram import Histogram
from minions.flow.lane import Lane
from minions.flow.mailbox import MOST_AT_ONCE, Mailbox
from minions.flow.statistics import FlowStatistics, InboxStatistics
from minions.flow.turnstile import Turnstile
from minions.flow.unit import Unit

__all__ = ["Journal"]

_ENDING = Mode.ENDING


class Journal:
    """All channels and states of one running system, as of the last whole unit.

    Every method is safe to call from any thread and returns at once.

    Attributes:
        lock: guards this object, and every channel, mailbox and fence of the system. It is taken as
            ``with journal.turnstile, journal.lock:``; who left the turnstile out would leave threads asleep.
        turnstile: where the threads wait that find the lock taken.
        calls: those between components, under the same lock.
        commits: what becomes of whole units on their way to the disk, likewise.
        states: the stored forms of each component's states, by component and state.
        ticks: the row of each schedule, by `rows.tick_key`; also where nothing is kept on disk.
        durable: whether anything is written at all; fixed before the first unit.
        threads: the fences of lives by their own threads, as `threading` counts. Each thread writes its own entry; a look needs
            no lock.
        on_idle: called, outside the lock and on the component's thread, when a component finds nothing to do and
            `announce_idle` is set.
    """

    def __init__(self, clock: Clock, *, durable: bool, get_ident: Callable[[], int] = threading.get_ident) -> None:
        """Nothing is sent, and no life has begun.

        Args:
            clock: the source of time.
            durable: whether anything is written at all.
            get_ident: the number of the calling thread.
        """
        self.lock = threading.Lock()
        self.turnstile = Turnstile(self.lock)
        self.durable = durable
        self.states: dict[str, dict[str, bytes]] = {}
        self.ticks: dict[str, bytes | None] = {}
        self.announce_idle = False
        self.threads: dict[int, Fence] = {}
        self.on_idle: Callable[[], None] = lambda: None
        self._clock = clock
        self.calls = CallBroker(self.lock, self.turnstile, clock)
        self.commits = GroupCommit(self.lock, self.turnstile, clock)
        self._get_ident = get_ident
        self._lanes: dict[Fence, list[tuple[Channel, Lane]]] = {}
        self._sent: Counter[str] = Counter()  # by lives that are over

    # ------------------------------------------------------------------ units
    def submit(self, unit: Unit, fence: Fence, parker: Parkable, mailbox: Mailbox | None = None) -> Ticket | None:
        """Makes a unit whole, or hands out a ticket for what it has to wait for.

        With a ticket in hand the caller waits while `waits` says so, and submits the same unit again; or withdraws it.
        When this raises, the unit is withdrawn.

        Raises:
            StaleComponent: the fence is cut.
            InboxFull: an inbox that fails when it is full.
            StoreError: the store has failed for good.
        """
        wakes: Wakes = []
        now_s = self._clock.monotonic()
        lock, turnstile = self.lock, self.turnstile  # as in `with turnstile, lock:`, which would take 0.2 us longer
        try:
            while turnstile.is_taken:
                turnstile.wait()
            with lock:
                fence.check_locked()
                ticket = self._admit_locked(unit, parker, now_s)
                if ticket is None:
                    self._merge_locked(unit, now_s, wakes, mailbox)
                    if unit.sends:
                        fence.sent += len(unit.sends)
        except BaseException:  # whatever it is, Ctrl-C too: room that nobody fills would be lost for good
            self.withdraw(unit, None)  # which passes the turnstile
            raise
        if turnstile.sleepers:
            turnstile.wake_next()
        for parkable in wakes:
            parkable.unpark()
        return ticket

    def redeliver(self, unit: Unit, message_id: str, parker: Parkable) -> Ticket | None:
        """Makes a unit whole that sends one message which had been set aside: at the end of its inbox, with the id that it had.

        It needs no room in the inbox, so there is nothing but the disk to wait for; a ticket is for that, as with `submit`. A
        unit that sends nothing, because the message is dropped, is as welcome.

        Raises:
            UsageError: the system has come to its end, and nothing is written any more.
            StoreError: the store has failed for good.
        """
        wakes: Wakes = []
        now_s = self._clock.monotonic()
        with self.turnstile, self.lock:
            if self.commits.closing:
                raise UsageError(f"{unit.component}: the system is about to end; do it again when it has ended")
            ticket = self.commits.admit_locked(parker, now_s)
            if ticket is None:
                for channel, _, _, _ in unit.sends:
                    channel.size += 1
                    channel.most = max(channel.most, channel.size)
                    channel.ids[channel.next_sequence] = message_id
                    unit.granted[channel] = 1
                self._merge_locked(unit, now_s, wakes, None)
        for parkable in wakes:
            parkable.unpark()
        return ticket

    def open_lane(self, channel: Channel, fence: Fence) -> Lane:
        """The lane by which a life sends to a channel, until `end_life`: one for all its outboxes, so that they keep one order.

        Raises:
            StaleComponent: the fence is cut.
        """
        with self.turnstile, self.lock:
            fence.check_locked()
            lanes = self._lanes.setdefault(fence, [])
            for fed, lane in lanes:
                if fed is channel:
                    return lane
            lane = Lane()
            lanes.append((channel, lane))
            return lane

    def lend(self, channel: Channel, lane: Lane, fence: Fence) -> bool:
        """Lends a lane room for a few messages, the first of which the caller appends at once.

        False when that message has to be submitted as any other, because it would have to wait or the fence is not open.
        """
        with self.turnstile, self.lock:
            lent = not fence.yields and channel.lend_locked(lane)
            if lane.granted > lane.mark_due and lent:
                lane.mark_locked(lane.used - 1, self._clock.monotonic())
            return lent

    def ring(self, channel: Channel, lane: Lane) -> None:
        """Wakes a reader for what has come along a lane."""
        wakes: Wakes = []
        with self.turnstile, self.lock:
            number = lane.used - 1
            if number >= lane.mark_due:
                lane.mark_locked(number, self._clock.monotonic())
            channel.wake_reader_locked(wakes)
        for parkable in wakes:
            parkable.unpark()

    def waits(self, ticket: Ticket, fence: Fence, deadline_s: float | None) -> bool:
        """Whether the ticket of a unit is still to be waited for.

        Raises:
            StaleComponent: the fence is cut.
            StopRequested: the component was asked to stop a while ago.
            InboxFull: the deadline is past.
            StoreError: the store has failed for good.
        """
        wakes: Wakes = []
        now_s = self._clock.monotonic()
        late = deadline_s is not None and now_s >= deadline_s
        try:
            with self.turnstile, self.lock:
                fence.check_locked()
                ticket.asked_s = now_s
                if ticket.channel is not None and not ticket.granted:
                    ticket.channel.serve_line_locked(now_s, wakes, at_once=late)
                if ticket.granted:
                    return False
                if fence.mode is Mode.ENDING:
                    raise StopRequested(f"{fence.component} was asked to stop")
                if self.commits.failure is not None:
                    raise self.commits.failure
                if not late:
                    return True
                if ticket.channel is not None:
                    ticket.channel.refused += ticket.need
        finally:
            for parkable in wakes:
                parkable.unpark()
        full = "the disk keeps up with no more" if ticket.channel is None else f"inbox {ticket.channel.name} is full"
        raise InboxFull(f"{fence.component}: {full}, and there was no room within the timeout; nothing was sent")

    def withdraw(self, unit: Unit, ticket: Ticket | None) -> None:
        """Gives up a unit that was not whole yet: it leaves the line, and the room that it holds is free again."""
        wakes: Wakes = []
        now_s = self._clock.monotonic()
        with self.turnstile, self.lock:
            if ticket is not None and not ticket.granted:
                if ticket.channel is None:
                    self.commits.leave_window_locked(ticket)
                else:
                    ticket.channel.leave_line_locked(ticket, now_s, wakes)
            for channel, count in unit.granted.items():
                channel.release_room_locked(count, now_s, wakes)
            unit.granted.clear()
            announce = self.announce_idle
        for parkable in wakes:
            parkable.unpark()
        if announce:
            self.on_idle()

    def _admit_locked(self, unit: Unit, parker: Parkable, now_s: float) -> Ticket | None:
        """Takes room for everything that the unit sends, channel by channel in their fixed order.

        A message in work holds room too, in the inbox that it came from. So the order is that of the flow: what a component
        reads comes before what it feeds. Whoever waits then waits only for what comes later than all that it holds, and units
        that hold room and wait for more cannot wait for each other in a circle.
        """
        if self.durable and (ticket := self.commits.admit_locked(parker, now_s)) is not None:
            return ticket
        if not unit.sends:
            return None
        granted = unit.granted
        for channel, need in _needs(unit):
            if channel.overflow.startswith("drop"):
                continue  # settled message by message when the unit is merged
            if channel in granted or channel.take_room_locked(need):
                granted[channel] = need
            elif channel.overflow == "block":
                return channel.join_line_locked(granted, need, parker, now_s)
            else:
                channel.refused += need
                raise InboxFull(
                    f"{unit.component}: inbox {channel.name} is full ({channel.size} of {channel.capacity}) and was declared "
                    'with overflow="fail"; nothing of this unit was sent'
                )
        return None

    def _merge_locked(self, unit: Unit, now_s: float, wakes: Wakes, mailbox: Mailbox | None) -> None:
        durable = self._settle_locked(unit, now_s, wakes, mailbox)
        durable |= self._deliver_locked(unit, now_s, wakes)
        if not (durable or unit.states or unit.keyed):
            return
        if unit.keyed:
            self.ticks.update(unit.keyed.get(rows.TICKS, ()))
            if not self.durable:
                return
        commits = self.commits
        epoch = commits.epoch
        if unit.states:
            kept = self.states.setdefault(unit.home, {})
            kept.update(unit.states)
            epoch.states[unit.home] = kept
        if unit.keyed:
            epoch.keep(unit.keyed)
        if not epoch.units:
            epoch.first_s = now_s
        epoch.units += 1
        epoch.size_bytes += unit.size_bytes
        if commits.writer_asleep:
            commits.wake_writer_locked(wakes)

    def _settle_locked(self, unit: Unit, now_s: float, wakes: Wakes, mailbox: Mailbox | None) -> bool:
        """Settles what a unit has received; whether any of it was durable."""
        if mailbox is not None:
            in_hand = islice(mailbox.in_hand, len(unit.settles))
            if any(held is not settled for held, settled in zip_longest(in_hand, unit.settles)):
                raise UsageError(
                    f"{unit.component}: a unit settles what its component has not in hand; nothing was done"
                )
        durable = False
        for channel, sequence, _, _, _ in unit.settles:
            channel.settle_locked(sequence, now_s, wakes)
            if mailbox is not None:
                mailbox.in_hand.popleft()
            if channel.codec is not None:
                self.commits.epoch.settled(channel)
                durable = True
        return durable

    def _deliver_locked(self, unit: Unit, now_s: float, wakes: Wakes) -> bool:
        """Delivers what a unit sends; whether any of it was durable."""
        durable = False
        for channel, message, stored, partition in unit.sends:
            if channel not in unit.granted and not channel.make_room_locked(wakes):
                continue
            sequence = channel.deliver_locked(message, stored, wakes, partition)
            if sequence >= channel.mark_due:
                channel.mark_locked(sequence, partition, now_s)
            if stored is not None:
                self.commits.epoch.sent(channel, sequence, stored)
                durable = True
        unit.granted.clear()  # the room now belongs to the messages
        return durable

    # ------------------------------------------------------------------ receiving
    def take(
        self,
        mailbox: Mailbox,
        fence: Fence,
        *,
        only: Channel | None = None,
        most: int = MOST_AT_ONCE,
        timed: bool = False,
        answer: Answer | None = None,
    ) -> list[Entry] | None:
        """Takes what waits for a component; None when it is to end, an empty list when it has to sleep.

        The list is empty too when a call was taken, which is then in `mailbox.call`, to be answered at once.

        After an empty list whoever brings something wakes `mailbox.parker`. A component that was asked to stop ends once nothing
        waits for it; one that was asked again ends at once. One that is paused sleeps until somebody lets it go on, and when it
        is asked to stop it ends at once.

        Args:
            only: the one channel to take from.
            most: how many messages to take at most.
            timed: the caller will not sleep longer than some time of its own.
            answer: what has come of the call that was taken before; told first. Not for a call with a future: see
                `CallBroker.answer`.

        Raises:
            StaleComponent: the fence is cut; who called was told when it was.
        """
        wakes: Wakes = []
        lock, turnstile = self.lock, self.turnstile  # as in `submit`
        while turnstile.is_taken:
            turnstile.wait()
        try:
            with lock:
                if fence.yields:
                    fence.check_locked()
                if answer is not None:
                    _call = self.calls.answer_locked(mailbox, answer, wakes)  # held until the lock is free, see `Freed`
                entries = self._take_locked(mailbox, fence, only, most, timed, wakes)
                has_nothing = entries is not None and not entries and mailbox.call is None
                held = fence.held
                announce = has_nothing and self.announce_idle
        finally:
            if turnstile.sleepers:
                turnstile.wake_next()
        for parkable in wakes:
            parkable.unpark()
        if held and has_nothing:
            self.stay_awake(mailbox)  # it is no reader while it is paused: the others are
        if announce:
            self.on_idle()
        return entries

    def _take_locked(
        self, mailbox: Mailbox, fence: Fence, only: Channel | None, most: int, timed: bool, wakes: Wakes
    ) -> list[Entry] | None:
        mailbox.asleep = False  # it may have woken by itself: a deadline, or an old permit
        if fence.yields and fence.mode is not Mode.LIVE:
            mailbox.put_down_call_locked(wakes)
            return None
        if mailbox.call is not None:
            return []  # it was handed over while this one slept, or was about to wake by itself
        entries = [] if fence.held else mailbox.take_locked(only, most)
        if entries or mailbox.call is not None:
            return entries
        if fence.mode is not Mode.LIVE:
            return None
        if not fence.held and mailbox.fall_asleep_locked(only, timed):
            entries = mailbox.take_locked(only, most)
            if entries or mailbox.call is not None:
                mailbox.asleep = False
        return entries

    def stay_awake(self, mailbox: Mailbox) -> None:
        """Says that a reader that was about to sleep does not; a wake-up that was meant for it goes to another."""
        wakes: Wakes = []
        with self.turnstile, self.lock:
            mailbox.asleep = False
            for channel in mailbox.channels:
                if channel.lanes:
                    channel.gather_locked()
                if channel.queues[mailbox.part]:
                    channel.wake_reader_locked(wakes, mailbox.part)
            if mailbox.calls is not None and mailbox.calls.waiting:
                mailbox.calls.wake_reader_locked(wakes)
        for parkable in wakes:
            parkable.unpark()

    def put_down(self, mailbox: Mailbox, fence: Fence) -> None:
        """Gives back what a component has in hand, to be received again."""
        wakes: Wakes = []
        with self.turnstile, self.lock:
            fence.check_locked()
            mailbox.put_down_locked(wakes)
        for parkable in wakes:
            parkable.unpark()

    def settle_effectless(self, mailbox: Mailbox, fence: Fence, count: int) -> None:
        """Settles the first `count` messages in hand: of one inbox, not durable, and their handlers changed nothing."""
        wakes: Wakes = []
        now_s = self._clock.monotonic()
        with self.turnstile, self.lock:
            fence.check_locked()
            in_hand = mailbox.in_hand
            channel = in_hand[0][0]
            if channel.attempts:
                for entry in islice(in_hand, count):
                    channel.attempts.pop(entry[1], None)
            for _ in range(count):
                in_hand.popleft()
            channel.settled += count
            channel.release_room_locked(count, now_s, wakes)
        for parkable in wakes:
            parkable.unpark()

    def count_set_aside(self, channel: Channel) -> None:
        """Counts a message that was set aside, or skipped."""
        with self.turnstile, self.lock:
            channel.set_aside += 1

    def count_failure(self, channel: Channel) -> None:
        """Counts a failure of a handler with a message that is not given back, because it was set aside."""
        with self.turnstile, self.lock:
            channel.failed += 1

    def attempts(self, entry: Entry) -> int:
        """How often a message has failed so far."""
        with self.turnstile, self.lock:
            return entry[0].attempts.get(entry[1], 0)

    def quiet(
        self,
        channels: Iterable[Channel],
        loops: Iterable[Mailbox] = (),
        components: Iterable[str] = (),
        calls: Iterable[CallQueue] = (),
    ) -> bool:
        """Whether nothing waits and nothing is in work in these channels, no call either, and these readers are asleep.

        Nor may any of `components` have something to do after a commit.

        What a sleeping reader has in hand is not in work: it has received it in its own loop and waits for more. But where it
        will wake by itself, it may then do something with it.
        """
        with self.turnstile, self.lock:
            if not self.commits.owing.keys().isdisjoint(components):
                return False
            if any(queue.waiting or queue.in_work for queue in calls):
                return False
            for channel in channels:
                held = sum(_held(reader, channel) for reader in channel.readers if reader.asleep and not reader.timed)
                if any(channel.queues) or channel.line or channel.length > held:
                    return False
            return all(mailbox.asleep for mailbox in loops)

    def watch_idle(self, announce: bool) -> None:
        """From now on components that find nothing to do say so (or no longer)."""
        with self.turnstile, self.lock:
            self.announce_idle = announce

    # ------------------------------------------------------------------ lives
    def begin_life(self, mailbox: Mailbox, fence: Fence) -> None:
        """Says that a life begins, on the thread that will be its own until `forget_thread`; it reads nothing yet."""
        self.threads[self._get_ident()] = fence
        with self.turnstile, self.lock:
            fence.parkers.append(mailbox.parker)
            if fence.mode is not Mode.CUT:
                self.calls.life_begins_locked(mailbox, fence)

    def forget_thread(self) -> None:
        """Says that this thread is no life's own any more."""
        self.threads.pop(self._get_ident(), None)

    def attach(self, mailbox: Mailbox, fence: Fence) -> None:
        """Makes a mailbox a reader of its channels, until `end_life`; what failed there before is tried again."""
        wakes: Wakes = []
        with self.turnstile, self.lock:
            fence.check_locked()
            if self.commits.owing.get(fence.component) is not mailbox.parker:
                self.commits.owing.pop(fence.component, None)  # a life that has failed owes until there is another
            mailbox.fence = fence
            self.calls.life_is_up_locked(mailbox, fence)
            for channel in mailbox.channels:
                channel.readers.append(mailbox)
                delayed, channel.delayed = channel.delayed, []
                channel.give_back_locked(delayed, wakes)
        for parkable in wakes:
            parkable.unpark()

    def end_life(self, mailbox: Mailbox, fence: Fence, *, failed: Entry | None = None) -> None:
        """Cuts the fence of a life and gives back what it had in hand; `failed` counts as one more failed attempt."""
        wakes: Wakes = []
        with self.turnstile, self.lock:
            if fence.mode is Mode.CUT:
                return
            fence.advance_locked(Mode.CUT)
            if failed is not None:
                channel, sequence = failed[0], failed[1]
                channel.attempts[sequence] = channel.attempts.get(sequence, 0) + 1
                channel.failed += 1
                channel.retried += 1
            for channel in mailbox.channels:
                if mailbox in channel.readers:
                    channel.readers.remove(mailbox)
                    channel.marker.keep_locked(mailbox.meters[channel])
            call = self.calls.life_ends_locked(mailbox, fence, wakes)
            shared = failed is not None and failed[0].shared
            mailbox.put_down_locked(wakes, failed if shared else None)
            for entry in mailbox.in_hand:  # the other replicas would try it again at once: it waits out the backoff
                entry[0].delayed.append(entry)
            mailbox.in_hand.clear()
            now_s = self._clock.monotonic()
            for channel, lane in self._lanes.pop(fence, ()):
                channel.close_lane_locked(lane, now_s, wakes)
                self._sent[fence.component] += lane.used
            self._sent[fence.component] += fence.sent
            wakes += fence.parkers
        for parkable in wakes:
            parkable.unpark()
        if call is not None:
            call.settle()

    def advance(self, fence: Fence, mode: Mode, *, drain: bool = True) -> None:
        """Asks a life to stop (or asks again) and wakes its threads.

        Args:
            drain: whether what waits is to be handled before it ends.
        """
        with self.turnstile, self.lock:
            fence.advance_locked(mode)
            if not drain:
                fence.hold_locked(True)
            wakes = self._moved_locked(fence)
        for parkable in wakes:
            parkable.unpark()

    def hold(self, fence: Fence, held: bool) -> None:
        """Pauses a life, or lets it go on, and wakes its threads."""
        with self.turnstile, self.lock:
            fence.hold_locked(held)
            wakes = self._moved_locked(fence)
        for parkable in wakes:
            parkable.unpark()

    def _moved_locked(self, fence: Fence) -> Wakes:
        """Who is to look at a fence that has changed."""
        if fence.yields:
            for channel, _ in self._lanes.get(fence, ()):
                channel.recall_locked()  # so that whoever goes on sending comes here and learns of it
        return list(fence.parkers)

    def release_delayed(self, channels: Iterable[Channel]) -> None:
        """Gives back what waits for the next life of a replica, because there may be none; the others try it at once."""
        wakes: Wakes = []
        with self.turnstile, self.lock:
            for channel in channels:
                if channel.delayed:
                    delayed, channel.delayed = channel.delayed, []
                    channel.give_back_locked(delayed, wakes)
        for parkable in wakes:
            parkable.unpark()

    def join(self, fence: Fence, parker: Parkable) -> None:
        """Says that a further thread may sleep on behalf of a life, so that it is woken when the fence moves."""
        with self.turnstile, self.lock:
            fence.parkers.append(parker)

    def leave(self, fence: Fence, parker: Parkable) -> None:
        with self.turnstile, self.lock:
            fence.parkers.remove(parker)

    # ------------------------------------------------------------------ what follows a commit
    def owe(self, fence: Fence, parker: Parkable) -> None:
        """Says that a component has something to do after a commit: until `pay` it is not quiet, and is woken at each commit.

        Raises:
            StaleComponent: the fence is cut.
        """
        with self.turnstile, self.lock:
            fence.check_locked()
            self.commits.owing[fence.component] = parker

    def pay(self, fence: Fence) -> None:
        """Says that a component has nothing left to do after a commit."""
        with self.turnstile, self.lock:
            announce = False
            if fence.mode is not Mode.CUT:  # another life may owe by now, and under the same name
                announce = self.commits.owing.pop(fence.component, None) is not None and self.announce_idle
        if announce:
            self.on_idle()

    # ------------------------------------------------------------------ looking
    def statistics(self, channels: Iterable[Channel], fences: Iterable[Fence] = ()) -> FlowStatistics:
        """What was counted so far, of these channels, of these lives and those before them, and of all units."""
        with self.turnstile, self.lock:
            sent = dict(self._sent)
            for fence in fences:
                if fence.mode is not Mode.CUT:
                    along = sum(lane.used for _, lane in self._lanes.get(fence, ()))
                    sent[fence.component] = sent.get(fence.component, 0) + fence.sent + along
            return FlowStatistics(
                inboxes={channel.name: _counted(channel) for channel in channels},
                sent=sent,
                units_unsaved=self.commits.unsaved_units,
                bytes_unsaved=self.commits.unsaved_bytes,
                commits=self.commits.durable_epoch,
                units_committed=self.commits.durable_units,
            )

    def ticks_of(self, component: str) -> dict[str, bytes]:
        """The row of each schedule of a component, by the name of its method, as of the last whole unit."""
        prefix = rows.tick_key(component, "")
        with self.turnstile, self.lock:
            found = [(key, row) for key, row in self.ticks.items() if key.startswith(prefix)]
        return {key.removeprefix(prefix): row for key, row in found if row is not None}

    def stored_states(self, component: str) -> dict[str, bytes]:
        """The stored forms of a component's states, as of its last whole unit."""
        with self.turnstile, self.lock:
            return dict(self.states.get(component, {}))


def _counted(channel: Channel) -> InboxStatistics:
    """Looks only, because Ctrl-C may break it off: who watches a system is often its main thread."""
    in_lanes = sum(len(lane.sent) for lane in channel.lanes)
    length = channel.length  # it grows while one looks, where room is lent
    meters = [reader.meters[channel] for reader in channel.readers]
    return InboxStatistics(
        capacity=channel.capacity,
        waiting=channel.waiting + in_lanes,
        length=length,
        high_water=max(channel.most, length),
        sent=channel.sent + in_lanes,
        settled=channel.settled,
        failed=channel.failed,
        retried=channel.retried,
        set_aside=channel.set_aside,
        dropped=channel.dropped,
        refused=channel.refused,
        senders_waiting=len(channel.line),
        blocked=channel.blocked,
        blocked_s=channel.blocked_s,
        waits=Histogram.merged([channel.marker.waits, *(meter.waits.take() for meter in meters)]),
        handling=Histogram.merged([channel.marker.handling, *(meter.handling.take() for meter in meters)]),
    )


def _held(reader: Reader, channel: Channel) -> int:
    return sum(entry[0] is channel for entry in reader.in_hand)


def _needs(unit: Unit) -> Iterable[tuple[Channel, int]]:
    """How many messages a unit sends to each channel, in the fixed order of the channels."""
    if len(unit.sends) == 1:
        return ((unit.sends[0][0], 1),)
    counted: dict[Channel, int] = {}
    for channel, _, _, _ in unit.sends:
        counted[channel] = counted.get(channel, 0) + 1
    return sorted(counted.items(), key=lambda need: need[0].index)
