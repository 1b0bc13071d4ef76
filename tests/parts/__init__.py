"""Real servers that tests run against, started and ended by the tests."""
