"""What may never answer is asked, and left."""

import time

import pytest

from pipemlp.launching.waiting import answer_within


def test_an_answer_in_time():
    assert answer_within(20.0, lambda: 7) == 7


def test_none_in_time():
    started = time.monotonic()
    assert answer_within(0.05, lambda: time.sleep(60)) is None
    assert time.monotonic() - started < 30


def test_an_error_in_time():
    with pytest.raises(ZeroDivisionError):
        answer_within(20.0, lambda: 1 // 0)
