"""What all tests share."""

import pytest

# Assertions in the suites that several test files use explain themselves too.
pytest.register_assert_rewrite("store_contract")
