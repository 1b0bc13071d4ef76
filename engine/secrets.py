"""Secrets by name: where they come from, how texts hide them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Secret(NamedTuple):
    """A named secret: its value or None, where it was found, and why it cannot be used or ''."""

    value: str | None
    source: str
    problem: str = ""


def find_secret(name: str, environ: Mapping[str, str]) -> Secret:
    """Look a secret up: the variable `name`, or the file that `name_FILE` names. Never raises."""
    value, file = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if value and file:
        return Secret(None, "", f"{name} and {name}_FILE are both set: keep one of them.")
    if not file:
        return Secret(value or None, f"environment {name}", "" if value else f"{name} is not set.")
    try:
        text = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text"
        return Secret(None, f"file {file}", f"{name}_FILE={file}: cannot be read ({reason}).")
    return Secret(text or None, f"file {file}", "" if text else f"{name}_FILE={file}: the file is empty.")


def secret(name: str, environ: Mapping[str, str]) -> str | None:
    """Return a named secret, or None when it is not set or cannot be read (`find_secret` says why)."""
    return find_secret(name, environ).value


def without_password(text: str) -> str:
    """Return a text in which the name, password and key of an address are hidden."""
    scheme, _, rest = text.partition("://")
    if "?" in rest.rpartition("@")[0]:
        # A name or a key with signs that it should not have: who knows where it ends.
        return f"{scheme}://(hidden)"
    shown = re.sub(r"://\S*@", "://(hidden)@", text)
    # Of an address' options only those that are known to be no secret are shown.
    return re.sub(r"([?&](?!(?:ca|refresh|replicas|shards|verify)=)[^=&]*=)[^&]*", r"\1(hidden)", shown)
