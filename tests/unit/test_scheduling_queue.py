"""The scheduler's queue: order, back-off, gates, and what brings a pod back."""

from __future__ import annotations

from atoll.cluster.scheduler.queue import SchedulingQueue
from atoll.scheduling.pod import Templates


def pods(*specs):
    templates = Templates()
    found = []
    for number, spec in enumerate(specs):
        metadata = {"name": f"p{number}", "namespace": "d", "uid": f"u{number}"}
        found.append(templates.pod({"metadata": metadata, "spec": {"containers": [], **spec}}))
    return found


def names(queue, now=0.0):
    found = []
    while (waiting := queue.pop(now)) is not None:
        found.append(waiting.pod.name)
        queue.park(waiting, now)
    return found


def test_priority_then_age():
    queue = SchedulingQueue()
    for age, pod in enumerate(pods({}, {"priority": 5}, {}, {"priority": 5})):
        queue.add(pod, float(age))
    assert names(queue) == ["p1", "p3", "p0", "p2"]


def test_unschedulable_pods_wait_for_a_change_and_are_all_tried_once():
    queue = SchedulingQueue()
    for pod in pods({}, {}):
        queue.add(pod, 0.0)
    assert names(queue) == ["p0", "p1"]
    assert names(queue) == []
    queue.helped()
    queue.helped()
    assert names(queue, 0.5) == ["p0", "p1"]
    assert names(queue, 0.5) == []


def test_ready_pods_come_before_those_that_back_off():
    queue = SchedulingQueue()
    first, second = pods({}, {})
    queue.add(first, 0.0)
    assert names(queue) == ["p0"]
    queue.helped()
    queue.add(second, 0.1)
    assert names(queue, 0.1) == ["p1", "p0"]


def test_errors_keep_their_back_off():
    queue = SchedulingQueue()
    [pod] = pods({})
    queue.add(pod, 0.0)
    queue.retry(queue.pop(0.0), 0.0)
    assert queue.pop(0.5) is None
    assert queue.next_time() == 1.0
    again = queue.pop(1.0)
    assert again.attempts == 2
    queue.retry(again, 1.0)
    assert queue.next_time() == 3.0


def test_gated_pods_wait_and_removed_pods_are_gone():
    queue = SchedulingQueue()
    gated, plain = pods({"schedulingGates": [{"name": "g"}]}, {})
    queue.add(gated, 0.0)
    queue.add(plain, 0.0)
    queue.remove(plain.uid)
    assert names(queue) == []
    [free] = pods({})
    queue.add(free, 0.0)
    assert names(queue) == ["p0"]


def test_what_was_missed_is_tried_again_after_a_while():
    queue = SchedulingQueue()
    [pod] = pods({})
    queue.add(pod, 0.0)
    assert names(queue) == ["p0"]
    queue.flush(200.0)
    assert names(queue, 200.0) == []
    queue.flush(400.0)
    assert names(queue, 400.0) == ["p0"]
