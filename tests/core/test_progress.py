"""Stages of work: who shows them, what they count, and that the time left only falls."""

from __future__ import annotations

import threading
import time

from padim_zoo.core.progress import Stage, listening, open_stages, stage, told


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def began(self) -> None:
        self.heard.append("began")

    def ended(self) -> None:
        self.heard.append("ended")


def test_stages_within_stages() -> None:
    listener = Listener()
    with listening(listener):
        with stage("reading", 3) as outer, stage("computing", 10, "patches") as inner, stage("again", 1) as hidden:
            assert open_stages() == [outer, inner]  # images are counted already
            hidden.advance()
        assert open_stages() == []
        assert listener.heard == ["began", "ended"]
    assert outer.done == 0
    assert hidden.done == 1


def test_items_count_when_the_next_is_asked_for() -> None:
    seen = [(item, open_stages()[0].done) for item in told("abc", "spelling", 3, "letters")]
    assert seen == [("a", 0), ("b", 1), ("c", 2)]
    assert open_stages() == []


def test_an_error_closes_the_stage() -> None:
    items = told(range(3), "counting")
    next(items)
    assert len(open_stages()) == 1
    items.close()
    assert open_stages() == []


def test_other_threads_show_nothing() -> None:
    seen: list[int] = []

    def work() -> None:
        with stage("elsewhere"):
            seen.append(len(open_stages()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]


def test_time_left_never_grows_without_news() -> None:
    one = Stage("reading", 10, began=time.monotonic() - 8)
    assert one.seconds_left(time.monotonic()) is None
    one.advance(4)
    left = [one.seconds_left(one.informed + seconds) for seconds in range(20)]
    assert round(left[0] or 0, 1) == 12.0
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert str(one) == "reading: 4 of 10 images"
    assert one.to_dict(one.informed)["seconds_left"] == 12
