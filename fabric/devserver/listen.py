"""Lets other hosts reach a project's private server: TLS, and a password before anything else.

The server itself goes on to listen on its unix socket only. A listener takes connections, accepts
no command before AUTH (or HELLO with AUTH) with the right password, and then passes bytes on in
both directions. Password and certificate are made once, and kept in the project's state folder.
The certificate signs itself and goes into the URL, so that clients trust it and no other.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import shutil
import socket
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from fabric.errors import ConfigError, ServerError

#: Bytes of the commands before the password was given; a longer one is no AUTH.
GREETING_BYTES_MAX = 4_096
#: Seconds for a client to give the password.
GREETING_S = 10.0
#: Seconds before the answer to a wrong password: guessing takes that long.
REFUSAL_S = 1.0
#: Connections at a time; the private server takes 10,000.
CONNECTIONS_MAX = 1_000
#: Bytes passed on at a time.
CHUNK_BYTES = 1 << 16
#: Days that the certificate is good for; a lost one is replaced by deleting it.
CERTIFICATE_DAYS = 3_650


class Listener:
    """Passes connections on to a unix socket; an asynchronous context manager."""

    def __init__(self, target: str, host: str, port: int, state: Path, *, has_tls: bool) -> None:
        """`target` is the private server's socket. Raises ConfigError, ServerError."""
        self._target, self._host, self._port, self._state = target, host, port, state
        self._password = _kept(state / "password", lambda: secrets.token_urlsafe(24))
        self._tls = self._context() if has_tls else None
        self._server: asyncio.Server | None = None
        self._count = 0

    def _context(self) -> ssl.SSLContext:
        certificate, key = self._state / "tls.crt", self._state / "tls.key"
        if not (certificate.exists() and key.exists()):
            _make_certificate(certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        return context

    async def __aenter__(self) -> Listener:
        """Listen. Raises ServerError if the address cannot be used."""
        try:
            self._server = await asyncio.start_server(
                self._connected, self._host, self._port, ssl=self._tls
            )
        except OSError as error:
            raise ServerError(f"cannot listen on {self._host}:{self._port}: {error}") from error
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more. Connections end with the server."""
        if self._server is not None:
            self._server.close()

    def url(self) -> str:
        """Return the URL for other hosts, with the password and the certificate."""
        host = self._host
        if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            host = _name()
        host = f"[{host}]" if ":" in host else host
        base = f":{quote(self._password, safe='')}@{host}:{self._port}/0"
        if self._tls is None:
            return f"redis://{base}"
        data = quote((self._state / "tls.crt").read_text().strip(), safe="")
        # The certificate itself is known: its name need not be that of the host.
        return f"rediss://{base}?ssl_check_hostname=false&ssl_ca_data={data}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        try:
            if self._count > CONNECTIONS_MAX:
                writer.write(b"-ERR max number of clients reached\r\n")
                return
            async with asyncio.timeout(GREETING_S):
                rest = await self._greeting(reader, writer)
            if rest is not None:
                await self._pass_on(rest, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            pass  # it has gone, or speaks something else
        finally:
            self._count -= 1
            with suppress(OSError):
                await writer.drain()
            writer.close()

    async def _greeting(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Read commands until the password is given; return what is to be passed on first.

        None for a wrong password. Raises ValueError for what is no command.
        """
        budget = GREETING_BYTES_MAX
        while True:
            words = await _command(reader, budget)
            budget -= sum(map(len, words)) + 1
            if budget <= 0:
                raise ValueError("no AUTH")
            name = words[0].upper() if words else b""
            if name == b"AUTH" and len(words) in (2, 3):
                passed_on, given = b"", words[-1]
            elif name == b"HELLO" and len(words) >= 5 and words[2].upper() == b"AUTH":
                passed_on, given = _encoded([*words[:2], *words[5:]]), words[4]
            else:
                writer.write(b"-NOAUTH Authentication required.\r\n")
                await writer.drain()
                continue
            if not hmac.compare_digest(given, self._password.encode()):
                await asyncio.sleep(REFUSAL_S)
                writer.write(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
                return None
            if not passed_on:
                writer.write(b"+OK\r\n")
            return passed_on

    async def _pass_on(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        their_reader, their_writer = await asyncio.open_unix_connection(self._target)
        try:
            their_writer.write(first)
            both = {
                asyncio.create_task(_copy(reader, their_writer)),
                asyncio.create_task(_copy(their_reader, writer)),
            }
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in both:
                    one.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        finally:
            their_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()


async def _command(reader: asyncio.StreamReader, budget: int) -> list[bytes]:
    """Read one command of RESP. Raises ValueError for anything else, and for one over budget."""
    count = await _number(reader, b"*", budget)
    words = []
    for _ in range(count):
        size = await _number(reader, b"$", budget)
        budget -= size + 1
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


async def _number(reader: asyncio.StreamReader, mark: bytes, most: int) -> int:
    line = await reader.readuntil(b"\r\n") if most > 0 else b""
    number = int(line[1:-2]) if line[:1] == mark and line[1:-2].isdigit() else -1
    if not 0 <= number <= most:
        raise ValueError("no command")
    return number


def _encoded(words: list[bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    return b"".join([*parts, *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)])


def _kept(path: Path, make: object) -> str:
    """Return the text of a file that only its owner reads; make it if it is not there."""
    with suppress(OSError):
        if text := path.read_text().strip():
            return text
    text = str(make()) if callable(make) else ""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text + "\n")
    return text


def _make_certificate(certificate: Path, key: Path) -> None:
    """Make a certificate that signs itself, with the openssl program."""
    program = shutil.which("openssl")
    if program is None:
        raise ConfigError(
            "no `openssl` on PATH to make a certificate: install it, or say --no-tls for a network "
            "that nobody else can listen to"
        )
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", str(CERTIFICATE_DAYS), "-subj", "/CN=signal-fabric"]
    old = os.umask(0o077)
    try:
        done = subprocess.run(  # noqa: S603 - words of ours
            [program, *words, "-keyout", str(key), "-out", str(certificate)],
            capture_output=True,
            check=False,
        )
    finally:
        os.umask(old)
    if done.returncode:
        raise ServerError(f"openssl made no certificate: {done.stderr.decode(errors='replace')}")


def _name() -> str:
    """Return the address by which other hosts most likely reach this one."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: it tells the interface
        return str(probe.getsockname()[0])
    return socket.gethostname()
