"""The checks of what is deployed in AWS besides the tables and keys. None applies to the embedded database."""

from collections.abc import Callable

from infra.operator.doctor import front, function, mail, mutual_tls, sign_ins, suppression
from infra.operator.doctor.findings import Verdict
from infra.operator.doctor.stage import Inside

# name, check
CHECKS: tuple[tuple[str, Callable[[Inside], Verdict]], ...] = (
    ("function", function.age),
    ("runtime", function.runtime),
    ("pinned issuer", function.pinned_issuer),
    ("alarms", function.alarms),
    ("sign-in addresses", sign_ins.addresses),
    ("front", front.front),
    ("mail", mail.sending),
    ("truststore", mutual_tls.truststore),
    ("suppressed addresses", suppression.addresses),
)
