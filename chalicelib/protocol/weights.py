"""What a request prefers: the items of Accept or Accept-Language, each with its weight (RFC 9110 section 12.4.2)."""

import re

_WEIGHT = re.compile(r"[Qq]\s*=\s*(.*)")
_VALUE = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def weighted(header: str) -> list[tuple[str, float]]:
    """Return the items of a header field in their order, each without its weight, which is 0 if it is malformed.

    An item keeps its other parameters.
    """
    items = []
    for item in header.split(","):
        parts, value = [part.strip() for part in item.split(";")], "1"
        for index in range(1, len(parts)):
            if weight := _WEIGHT.fullmatch(parts[index]):
                value = weight[1]
                del parts[index]
                break
        items.append((";".join(parts), float(value) if _VALUE.fullmatch(value) else 0.0))
    return items
