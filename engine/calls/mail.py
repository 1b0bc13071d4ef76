"""Hands mails to the SMTP server that the settings name."""

from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formataddr, formatdate, parseaddr
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from headrace.engine.errors import CallError

PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
"""What a server's URL may begin with, and the usual port: STARTTLS, TLS from the first byte, no TLS at all."""

WRONG_PASSWORD = 535
SETTING = "HEADRACE_SMTP"


class SmtpPlace(NamedTuple):
    """Where mails go, and how: `scheme` is one of `PORTS`; `user` is empty where nobody logs in."""

    scheme: str
    host: str
    port: int
    user: str


def read_smtp(url: str) -> SmtpPlace:
    """Return what a URL names: smtp://user@host:port. Raises ValueError; a password in it is refused."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is no URL of an SMTP server") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"it begins with {', '.join(f'{scheme}://' for scheme in PORTS)} and a host")
    if parts.password is not None:
        raise ValueError(f"a password does not stand in it, but in {SETTING}_PASSWORD")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("nothing comes after the host and port")
    return SmtpPlace(parts.scheme, parts.hostname, port or PORTS[parts.scheme], unquote(parts.username or ""))


class Mailer:
    """Sends mails, each on a connection of its own. Without a server every mail fails, to be tried again."""

    def __init__(self, url: str, password: str | None, sender: str) -> None:
        self._place = read_smtp(url) if url else None
        self._password = password
        self._sender = sender

    async def send(self, mail: Mapping[str, Any], *, key: str, seconds: float) -> None:
        """Hand a mail to the server; `key` becomes its Message-ID. Raises CallError when it was not taken.

        A server that refuses some of the recipients for good, and takes the mail for others, has taken it.
        """
        place = self._place
        if place is None:
            raise CallError(f"there is no mail server: set {SETTING}", retryable=True)
        message, recipients = make_message(mail, key, self._sender)
        import aiosmtplib  # noqa: PLC0415 - whoever sends no mail does without it

        try:
            await aiosmtplib.send(
                message,
                sender=parseaddr(message["From"])[1],
                recipients=recipients,
                hostname=place.host,
                port=place.port,
                username=place.user or None,
                password=self._password if place.user else None,
                use_tls=place.scheme == "smtps",
                start_tls=place.scheme == "smtp",
                timeout=seconds,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            first = error.recipients[0]
            raise self._refused(first.code, first.message) from None
        except aiosmtplib.SMTPResponseException as error:
            raise self._refused(error.code, error.message) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            text = f"{place.host}:{place.port}: the mail was not taken ({type(error).__name__})"
            raise CallError(text, retryable=True) from None

    def _refused(self, code: int, message: str) -> CallError:
        """Return what a status means: 4xx, and a wrong password, may be another one later."""
        text = message.replace(self._password, "(hidden)") if self._password else message
        again = code < 500 or code == WRONG_PASSWORD
        return CallError(f"the mail server said {code} {text[:300]}", retryable=again)


def make_message(mail: Mapping[str, Any], key: str, sender: str) -> tuple[EmailMessage, list[str]]:
    """Return the message and its recipients. Raises CallError, which never can be sent, for what is no mail."""
    chosen = mail.get("from") or sender
    if not chosen:
        raise CallError("the mail has no sender: give `from`, or set HEADRACE_MAIL_FROM")
    message = EmailMessage()
    try:
        message["From"] = _address(chosen)
        for name in ("to", "cc", "reply_to"):
            if given := mail.get(name):
                message[name.replace("_", "-").title()] = ", ".join(_address(one) for one in given)
        message["Subject"] = str(mail.get("subject", ""))
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{key}@headrace>"
        message["Auto-Submitted"] = "auto-generated"
        for name, value in (mail.get("headers") or {}).items():
            message[name] = str(value)
    except (ValueError, TypeError, IndexError) as error:
        raise CallError(f"the mail has a header that cannot be sent: {error}") from None
    text, html = mail.get("text"), mail.get("html")
    message.set_content(str(text if text is not None else ""), cte="base64" if text else None)
    if html is not None:
        message.add_alternative(str(html), subtype="html")
    every = [*(mail.get("to") or ()), *(mail.get("cc") or ()), *(mail.get("bcc") or ())]
    recipients = list(dict.fromkeys(parseaddr(one)[1] for one in every))
    if not recipients:
        raise CallError("the mail has no recipient")
    return message, recipients


def _address(text: str) -> str:
    """Return an address as a header says it. Raises ValueError for what is none."""
    name, address = parseaddr(text)
    local, at, host = address.rpartition("@")
    if not (local and at and host) or any(sign in text for sign in "\r\n\0") or " " in address:
        raise ValueError(f"{text[:100]!r} is no mail address")
    return formataddr((name, address))
