"""All functions, filters and tests of expressions, for their documentation."""

from headrace.engine.language.library import FILTERS, FUNCTIONS, OTHER_NAMES
from headrace.engine.language.registry import Function
from headrace.engine.language.values import TESTS

__all__ = ["FILTERS", "FUNCTIONS", "OTHER_NAMES", "TESTS", "Function"]
