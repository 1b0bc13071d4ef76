"""The expression language: Jinja's grammar, our own meaning and limits."""
