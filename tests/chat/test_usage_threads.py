"""Counting from two threads: answers come in one (the calls'), waves are settled in another (the caller's)."""

from __future__ import annotations

import sys
import threading

from gra_train.chat.protocol import Reply
from gra_train.chat.usage import Usage

STORIES = 20_000


def test_settling_while_answers_come_loses_no_count():
    usage, stream = Usage(), object()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    try:
        answers = threading.Thread(
            target=lambda: [
                usage.add("m", "p", Reply("x"), from_ledger=False, story=(stream, i)) for i in range(STORIES)
            ]
        )
        answers.start()
        while answers.is_alive():
            usage.settle(stream, 0)  # looks at what is held, as at the end of a wave
        answers.join()
        usage.settle(stream, None)
    finally:
        sys.setswitchinterval(switch)
    assert usage.to_dict()["total"]["asked"] == STORIES
