"""What the door says: one sentence, in an exception of exactly one type."""

import pytest


def complaint(error, function, *arguments, **options):
    """What is said when this is asked for."""
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    assert caught.type is error
    assert "\n" not in str(caught.value)
    return str(caught.value)
