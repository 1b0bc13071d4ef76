"""The steps of a request, one module each."""
