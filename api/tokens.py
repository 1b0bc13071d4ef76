"""Tokens: who may read and who may erase."""

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from hmac import compare_digest
from pathlib import Path
from typing import Literal

from headrace.api.doors.call import credential
from headrace.engine.errors import InputError
from headrace.engine.settings import Settings
from headrace.engine.variables import SettingsError, variable

Level = Literal["read", "admin"]

NO_TOKEN = "No admin token is set: give HEADRACE_ADMIN_TOKEN or HEADRACE_ADMIN_TOKEN_FILE and start again."  # noqa: S105

SHORT_TOKEN = 16
"""A token with fewer characters may be guessed."""


class Tokens:
    """The tokens of this process; `made` is the file of one that was made just now, or None."""

    def __init__(self, admin: str | None, read: Iterable[str] = (), made: Path | None = None) -> None:
        self.admin = admin
        self.made = made
        self._known: list[tuple[bytes, Level]] = [(token.encode(), "read") for token in read]
        if admin:
            self._known.append((admin.encode(), "admin"))

    def level(self, authorization: bytes | None) -> Level | None:
        """Return what an Authorization header allows, or None; compares with all, in constant time."""
        given = (credential(authorization) or "").encode() if authorization else b""
        found: Level | None = None
        for token, level in self._known:
            if compare_digest(given, token):
                found = level
        return found

    def require(self, level: Level, authorization: bytes | None) -> None:
        """Raise InputError 503 when no token is set at all, 401 for a wrong one, 403 for one that is not enough."""
        if not self._known:
            raise InputError(503, "no_token", NO_TOKEN)
        found = self.level(authorization)
        if found is None:
            raise InputError(401, "bad_token", "A token is needed: Authorization: Bearer TOKEN.")
        if level == "admin" and found != "admin":
            raise InputError(403, "admin_only", "This needs the admin token; a read token does not do.")


def load_tokens(settings: Settings) -> Tokens:
    """Return the tokens of the settings; with the embedded store an admin token is made if there is none.

    Raises SettingsError when the file with the token cannot be read or written.
    """
    read = [token.get_secret_value() for token in settings.read_tokens]
    if settings.admin_token is not None:
        return Tokens(settings.admin_token.get_secret_value(), read)
    if not settings.store.startswith("sqlite:"):
        return Tokens(None, read)
    path = settings.data / "token"
    try:
        made = _make(path)
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError([f"{path}: the admin token cannot be read or written ({reason})."]) from None
    if not token:
        raise SettingsError(
            [f"{path}: the file is empty. Take it away; a new token is made at the next start."]
        )
    return Tokens(token, read, path if made else None)


def weak_tokens(settings: Settings) -> list[str]:
    """Return a sentence for each token that can be guessed, or read by other users of this machine."""
    admin = settings.admin_token
    named = [("admin_token", token) for token in ([admin] if admin else [])]
    named += [("read_tokens", token) for token in settings.read_tokens]
    found = [
        f"{variable(name)} has fewer than {SHORT_TOKEN} characters: take a longer one, which cannot be guessed."
        for name, token in named
        if len(token.get_secret_value()) < SHORT_TOKEN
    ]
    sources = {origin.name: origin.source for origin in settings.origins()}
    files = [sources[name].removeprefix("file ") for name, _ in named if sources[name].startswith("file ")]
    if admin is None:
        files.append(str(settings.data / "token"))
    for file in dict.fromkeys(files):
        with suppress(OSError):
            if Path(file).stat().st_mode & stat.S_IROTH:
                found.append(f"{file} may be read by every user of this machine: say chmod 600 {file}.")
    return list(dict.fromkeys(found))


def _make(path: Path) -> bool:
    """Write a new token unless there is one; another process may do the same at the same time."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f".token-{os.getpid()}")
    whole.unlink(missing_ok=True)
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    try:
        os.link(whole, path)
    except FileExistsError:
        return False
    finally:
        whole.unlink()
    return True
