"""IP addresses of callers and of other servers."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address


def parse_address(text: str) -> Address | None:
    """Return the address in a text, None if it is not one; for an IPv4-mapped address the IPv4 address."""
    try:
        return unmapped(ip_address(text))
    except ValueError:
        return None


def unmapped(address: Address) -> Address:
    """Return the IPv4 address of an IPv4-mapped one, to which systems connect (RFC 4291 section 2.5.5.2)."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_global(text: str) -> bool:
    """Return whether a text is an address that no other host has: not private, loopback, link-local or shared."""
    address = parse_address(text)
    return address is not None and address.is_global


def network_of(source_ip: str, ipv4_bits: int = 32, ipv6_bits: int = 56) -> str:
    """Return the network of an address with so many bits.

    By default what counts as one address: an IPv4 address, or the /56 of an IPv6 address, which one customer has.
    """
    address = parse_address(source_ip)
    if address is None:
        return "unknown"
    if isinstance(address, IPv4Address):
        return str(IPv4Network((int(address), ipv4_bits), strict=False)).removesuffix("/32")
    return str(IPv6Network((int(address), ipv6_bits), strict=False))


def masked(source_ip: str) -> str | None:
    """Return the network of an address as users see it, such as 203.0.113.*, or None for what is no address.

    It is what one access line usually keeps: the first 24 bits of IPv4, the first 48 of IPv6.
    """
    address = parse_address(source_ip)
    if address is None:
        return None
    if isinstance(address, IPv4Address):
        return str(address).rpartition(".")[0] + ".*"
    return ":".join(f"{int(group, 16):x}" for group in address.exploded.split(":")[:3]) + ":*"
