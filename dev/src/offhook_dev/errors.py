"""What a person can do something about."""


class DevError(Exception):
    """The development stack cannot go on; the message is one sentence that says what to do."""
