"""The state folder: where this checkout's embedded DynamoDB keeps its items, its key and its port.

It lies outside the checkout, because `chalice local` restarts on every new file there. Whoever holds the folder's lock
is the only process that writes to it; the operating system releases the lock however that process ends.
"""

import fcntl
import hashlib
import http.client
import os
import secrets
import shutil
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SEALING_KEY_BYTES = 32
PATIENCE = 15.0


class StateError(Exception):
    """The state cannot be used; the text is one sentence or two for the person at the terminal."""


def state_path(checkout: Path = CHECKOUT) -> Path:
    """Where the state of a checkout lies: in $XDG_STATE_HOME, by default ~/.local/state."""
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():  # the XDG specification has relative paths ignored
        home = Path.home() / ".local" / "state"
    digest = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:8]
    return home / "signet" / f"{checkout.name}-{digest}"


class StateFolder:
    """The folder `path`, made when it is absent, for nobody else's eyes."""

    def __init__(self, path: Path | None = None):
        self.path = path or state_path()
        self.items = self.path / "state"
        self._port = self.path / "port"
        self._lock: int | None = None
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise StateError(f"{self.path} cannot be written ({error.strerror}). XDG_STATE_HOME moves it.") from error

    # ---- who owns it

    def acquire(self, *, wait: bool = False) -> bool:
        """Become the one process that writes here; False when another is. `wait` waits until that one has ended."""
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def acquire_or_find(self) -> int | None:
        """None when this process has become the owner; else the port of the database that the owner serves.

        Waits for an owner that is only starting, or that is a command at work. Raises StateError after 15 s.
        """
        end = time.monotonic() + PATIENCE
        while not self.acquire():
            if port := self.port():
                return port
            if time.monotonic() > end:
                raise StateError(f"Another process holds {self.path} and does not answer. End it first.")
            time.sleep(0.02)
        return None

    def release(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def clear(self) -> None:
        """Start over: remove everything. Raises StateError while another process owns the folder."""
        if not self.acquire():
            raise StateError("Another server of this checkout is running on this state. End it first.")
        try:
            for entry in self.path.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
        finally:
            self.release()

    # ---- what lies in it

    def publish(self, port: int) -> None:
        """Tell other processes of this checkout where the owner serves its database."""
        self._write("port", str(port).encode())

    def port(self) -> int | None:
        """Where the owner serves its database; None unless a database of this very folder answers there.

        A port file outlives a killed server, and its port may be anybody's by then: so we ask who it is.
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

    @property
    def name(self) -> str:
        """What the owner's database answers when it is asked whose it is."""
        return f"signet {self.path}"

    def sealing_key(self) -> bytes:
        """The 32 bytes that seal this checkout's key ring, made on first use by the owner. Raises StateError."""
        file = self.path / "sealing.key"
        if not file.exists():
            self._write(file.name, secrets.token_bytes(SEALING_KEY_BYTES))
        key = file.read_bytes()
        if len(key) != SEALING_KEY_BYTES:
            raise StateError(f"{file} is damaged. `make run FRESH=1` starts over.")
        return key

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all."""
        new = self.path / f".{name}.new"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / name)
