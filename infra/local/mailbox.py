"""The mailbox of the local server: it stands for Amazon SES, and keeps each mail as a file in the state folder.

The page /mailbox shows them (`chalicelib.endpoints.mailbox`).
"""

import base64
import binascii
import json
import os
import secrets
import time
from email import message_from_bytes, policy
from pathlib import Path

MAX_MAILS = 200
FOLDER = "mailbox"
PATH = "/v2/email/outbound-emails"


def receive(folder: Path, body: bytes) -> tuple[int, dict[str, str]]:
    """Keep the mail of a call of SendEmail with raw content. Return the status and the members of the answer."""
    try:
        message = base64.b64decode(json.loads(body)["Content"]["Raw"]["Data"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error):
        return 400, {"message": "no raw message"}
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{time.time_ns()}-{secrets.token_hex(4)}"
    partial = folder / f"{name}.part"
    partial.touch(mode=0o600)
    partial.write_bytes(message)
    os.replace(partial, folder / f"{name}.eml")
    for old in sorted(folder.glob("*.eml"))[:-MAX_MAILS]:
        old.unlink(missing_ok=True)
    parsed = message_from_bytes(message, policy=policy.default)
    # Neither has a control character: the server's own message was parsed.
    print(f"Mail to {parsed['To']}: {parsed['Subject']} (see /mailbox)", flush=True)
    return 200, {"MessageId": name}
