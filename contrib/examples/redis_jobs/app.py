"""Jobs from a list in Redis, by blocking pops. What was popped stays in a second list until it is on disk: no kill loses it."""

import json

import attrs
from redis import Redis

from minions import Component, Inbox, Outbox, State, System


@attrs.frozen
class Job:
    id: str
    number: int


class Jobs(Component):
    url: str = "redis://127.0.0.1:6379"
    last = State(str)  # the id of the job that was sent last
    jobs = Outbox(Job)

    def on_start(self) -> None:
        self._redis = Redis.from_url(self.url, single_connection_client=True, socket_timeout=None)
        self._connection = self._redis.client_id()

    def run(self) -> None:
        while self.running:  # first what a life that was killed has left, then BRPOPs that keep a copy
            text = self._redis.lindex("jobs:taken", -1) or self._redis.brpoplpush("jobs", "jobs:taken", 0)
            if text is None:  # it was unblocked
                return
            job = json.loads(text)
            if job["id"] != self.last:
                with self.unit():  # sent, and known if it is met again: both, or neither
                    self.jobs.send(Job(**job))
                    self.last = job["id"]
            self.commit()
            self._redis.rpop("jobs:taken")

    def on_interrupt(self) -> None:
        Redis.from_url(self.url, socket_timeout=1.0).client_unblock(self._connection)


class Worker(Component):
    jobs = Inbox(Job)
    count = State(int)
    total = State(int)

    @jobs.handler
    def work(self, job: Job) -> None:
        self.count += 1
        self.total += job.number**2
        print("job", job.id, flush=True)


if __name__ == "__main__":
    system = System("jobs")
    jobs, worker = system.add(Jobs()), system.add(Worker())
    system.connect(jobs.jobs, worker.jobs)
    system.run()
    print(f"{worker.count} jobs, the squares add up to {worker.total}")
