"""SIGTERM as an exception, signals held back, and handlers that are put back."""

import signal
import threading

import pytest

from hopmin._signals import Terminated, deferred, terminable


@pytest.fixture(autouse=True)
def handlers():
    """Handle SIGINT as Python does (background jobs of a shell ignore it); check that the handlers are put back."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    signal.signal(signal.SIGINT, interrupt)


def test_sigterm_raises_terminated():
    with pytest.raises(Terminated), terminable():
        signal.raise_signal(signal.SIGTERM)


def test_a_deferred_signal_acts_after_the_block():
    done = []

    def work():
        with deferred() as received:
            signal.raise_signal(signal.SIGINT)
            done.append(received[:])

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [[signal.SIGINT]]
    with pytest.raises(Terminated), terminable(), deferred():
        signal.raise_signal(signal.SIGTERM)


def test_a_deferred_signal_does_not_hide_an_error():
    with pytest.raises(ZeroDivisionError), deferred():
        signal.raise_signal(signal.SIGINT) or 1 / 0


def test_other_threads_change_no_handlers():
    found = []

    def block():
        with terminable(), deferred() as received:
            found.append((received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert found == [([], signal.getsignal(signal.SIGTERM))]
