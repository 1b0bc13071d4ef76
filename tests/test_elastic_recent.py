"""What a process remembers of its last writes to a cluster."""

from time import process_time

from headrace.engine.store.elastic.recent import Recent


def test_the_oldest_are_forgotten() -> None:
    recent: Recent[int] = Recent(3)
    for number, name in enumerate("abcd"):
        recent.add(name, number)
    assert list(recent.items()) == [("b", 1), ("c", 2), ("d", 3)]
    # What is added again is the newest.
    recent.add("b", 4)
    recent.add("e", 5)
    assert list(recent.items()) == [("d", 3), ("b", 4), ("e", 5)]


def test_to_forget_takes_no_longer_when_much_was_forgotten() -> None:
    def seconds(recent: Recent[str], names: range) -> float:
        began = process_time()
        for name in names:
            recent.add(str(name), "")
        return process_time() - began

    most = 40_000
    recent: Recent[str] = Recent(most)
    first = seconds(recent, range(most))
    later = [seconds(recent, range(turn * most, (turn + 1) * most)) for turn in (1, 2)]
    assert len(recent) == most
    # A dictionary that is searched from its front takes 40 times as long.
    assert min(later) < 10 * first
