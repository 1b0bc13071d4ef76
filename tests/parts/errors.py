"""What goes wrong with the servers of the tests."""


class PartError(RuntimeError):
    """A server that tests need could not be got or started; the message says what to do."""
