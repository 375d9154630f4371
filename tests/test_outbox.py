"""Events that wait for somebody: none twice in a connection, none too old, never too many."""

from hypothesis import given
from hypothesis import strategies as st

from kws.network.backoff import Backoff
from kws.network.outbox import Outbox


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


def names(outbox):
    return [event["id"] for _, _, event in outbox.unsent()]


def test_what_was_not_confirmed_is_sent_in_the_next_connection():
    clock = Clock()
    outbox = Outbox(age_s=60, clock=clock)
    for name in "abc":
        outbox.put(clock.now_s, {"id": name})
    for receipt, (key, _, _) in enumerate(list(outbox.unsent())[:2]):
        outbox.sent(key, receipt)
    assert names(outbox) == ["c"]
    outbox.confirm(0)
    outbox.confirm(77)  # of something else
    outbox.disconnected()
    assert names(outbox) == ["b", "c"]
    clock.now_s += 61
    assert names(outbox) == []
    assert (len(outbox), outbox.dropped) == (0, 2)


def test_the_oldest_go_first():
    outbox = Outbox(age_s=60, limit=2, clock=Clock())
    for name in "abc":
        outbox.put(100.0, {"id": name})
    assert names(outbox) == ["b", "c"]
    assert outbox.dropped == 1


@given(st.lists(st.sampled_from(["put", "send", "confirm", "lose"]), max_size=60))
def test_everything_arrives_once_where_confirmations_do(actions):
    outbox, receipts, arrived, count = Outbox(age_s=60, clock=Clock()), [], [], 0
    for action in [*actions, "lose", "send", "confirm"]:
        if action == "put":
            outbox.put(100.0, {"id": count})
            count += 1
        elif action == "send":
            for key, _, event in outbox.unsent():
                outbox.sent(key, key)
                receipts.append((key, event["id"]))
        elif action == "confirm":
            for receipt, name in receipts:
                outbox.confirm(receipt)
                arrived.append(name)
            receipts.clear()
        else:
            outbox.disconnected()
            receipts.clear()
    assert arrived == list(range(count))
    assert len(outbox) == 0


def test_pauses_double_up_to_a_cap_and_differ():
    backoff = Backoff(first_s=1, cap_s=8)
    for step_s in (1, 2, 4, 8, 8):
        assert step_s / 2 <= backoff.pause_s() <= step_s
    backoff.reset()
    assert backoff.pause_s() <= 1
    assert len({Backoff().pause_s() for _ in range(10)}) > 1
