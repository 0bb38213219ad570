"""The state folder, where this checkout's embedded DynamoDB stores its items, its key and its port.

It is outside the checkout, because `chalice local` restarts on every new file there. Only the process that holds the
folder's lock writes to it; the operating system releases the lock however that process ends.
"""

import fcntl
import hashlib
import http.client
import os
import secrets
import shutil
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SEALING_KEY_BYTES = 32
OWNER_TIMEOUT = 15.0  # seconds
_MAX_ISSUERS = 10


class StateError(Exception):
    """The state cannot be used; the text is a message of one or two sentences for the terminal."""


def state_path(checkout: Path = CHECKOUT) -> Path:
    """Return the state folder of a checkout: in $XDG_STATE_HOME, by default ~/.local/state."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():  # the XDG specification says to ignore relative paths
        home = Path.home() / ".local" / "state"
    digest = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:8]
    return home / "signet" / f"{checkout.name}-{digest}"


class StateFolder:
    """The folder `path`, created if it is missing, and readable only by its owner."""

    def __init__(self, path: Path | None = None):
        self.path = path or state_path()
        self.items = self.path / "state"
        self._port = self.path / "port"
        self._lock: int | None = None
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise StateError(
                f"{self.path} cannot be written ({error.strerror}). To move it, set XDG_STATE_HOME."
            ) from error

    # ---- ownership

    def acquire(self, *, wait: bool = False) -> bool:
        """Become the owner, the only process that writes. Return False when another is, or `wait` for its end."""
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def acquire_or_find(self) -> int | None:
        """Become the owner and return None, or return the port of the database that the owner serves.

        Waits for an owner that is starting or that is a running command. Raises StateError after 15 s.
        """
        end = time.monotonic() + OWNER_TIMEOUT
        while not self.acquire():
            if port := self.port():
                return port
            if time.monotonic() > end:
                raise StateError(f"Another process uses {self.path} and does not respond. Stop it first.")
            time.sleep(0.02)
        return None

    def release(self) -> None:
        """Release the ownership."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def clear(self) -> None:
        """Delete the whole state. Raises StateError while another process owns the folder."""
        if not self.acquire():
            raise StateError("Another server of this checkout is running. Stop it first.")
        try:
            for entry in self.path.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
        finally:
            self.release()

    # ---- content

    def publish(self, port: int) -> None:
        """Store the port of the owner's database, for the other processes of this checkout."""
        self._write("port", str(port).encode())

    def port(self) -> int | None:
        """Return the port of the owner's database, or None when no database of this folder answers there.

        A port file survives a killed server, and another program may use its port by then, so the name is checked.
        """
        try:
            port = int(self._port.read_text())
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            try:
                connection.request("GET", "/")
                answer = connection.getresponse().read(1000)
            finally:
                connection.close()
        except (OSError, ValueError, OverflowError, http.client.HTTPException):
            return None
        return port if answer == self.name.encode() else None

    def announce(self, issuer: str) -> None:
        """Store the issuer of a server that starts, for the commands of this checkout."""
        issuers = [issuer, *(other for other in self.announced() if other != issuer)]
        self._write("issuers", "\n".join(issuers[:_MAX_ISSUERS]).encode())

    def announced(self) -> list[str]:
        """Return the issuers of servers that were started, newest first. They need not run any longer."""
        try:
            return (self.path / "issuers").read_text().split()
        except (OSError, UnicodeDecodeError):
            return []

    @property
    def name(self) -> str:
        """Return the name that the owner's database answers with."""
        return f"signet {self.path}"

    def sealing_key(self) -> bytes:
        """Return the 32 bytes that seal the key ring, created by the owner on first use. Raises StateError."""
        file = self.path / "sealing.key"
        if not file.exists():
            self._write(file.name, secrets.token_bytes(SEALING_KEY_BYTES))
        key = file.read_bytes()
        if len(key) != SEALING_KEY_BYTES:
            raise StateError(f"{file} is damaged. To start over: make run FRESH=1")
        return key

    def _write(self, name: str, content: bytes) -> None:
        """Write a file atomically."""
        new = self.path / f".{name}.new"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / name)
