"""The steps of a request, one module each, in the order of `track`."""
