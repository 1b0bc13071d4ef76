"""A mail server for tests: takes mails, or says what it is told to say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class MailServer:
    """Keeps the mails that it took: from, to, and the text with its headers."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], str]] = []
        self.says: dict[str, str] = {}
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with one client until it, or the test, ends."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._speak(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, recipients = "", list[str]()
        writer.write(b"220 test\r\n")
        while line := (await reader.readline()).decode().strip():
            word = line.split(" ")[0].split(":")[0].upper()
            answer = "250 ok"
            if word in self.says:
                answer = self.says[word]
            elif word == "EHLO":
                answer = "250-test\r\n250 AUTH PLAIN LOGIN"
            elif word == "MAIL":
                sender = line.partition("<")[2].partition(">")[0]
            elif word == "RCPT":
                recipients.append(line.partition("<")[2].partition(">")[0])
            elif word == "AUTH":
                answer = "235 ok"
            elif word == "DATA":
                writer.write(b"354 go\r\n")
                text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                self.mails.append((sender, recipients, text))
            elif word == "QUIT":
                answer = "221 bye"
            writer.write(f"{answer}\r\n".encode())
            await writer.drain()
            if word == "QUIT":
                break


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    """Run a mail server on the loopback."""
    taking = MailServer()
    server = await asyncio.start_server(taking.serve, "127.0.0.1", 0)
    taking.port = server.sockets[0].getsockname()[1]
    async with server:
        yield taking
        for task in taking.tasks:
            task.cancel()
        await asyncio.gather(*taking.tasks, return_exceptions=True)
