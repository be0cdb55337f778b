"""What Kubernetes adds to CEL and the CRDs' rules use: addresses, networks and quantities.

Only what a rule of ours needs is here; a rule that needs more is reported as not checked (rules.py). Source: the
packages `k8s.io/apiserver/pkg/cel/library` and `k8s.io/apimachinery/pkg/api/resource`, version 0.37.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from celpy.celtypes import BoolType, IntType
from storagepair_crds.quantity import exact_quantity

_PREFIX = re.compile(r"[0-9.a-fA-F:]+/(0|[1-9][0-9]{0,2})", re.ASCII)
_NUMBER = re.compile(r"[+-]?0*([0-9]*)(?:\.([0-9]*))?(.*)", re.ASCII)
_BITS = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DIGITS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


@dataclass(frozen=True)
class _Equal:
    """Equality as CEL wants it: its own boolean, and nothing is equal to another type."""

    def _same(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __eq__(self, other: object) -> BoolType:  # type: ignore[override]
        return BoolType(self._same(other))

    def __ne__(self, other: object) -> BoolType:  # type: ignore[override]
        return BoolType(not self._same(other))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class IP(_Equal):
    """An address."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, eq=False)
class CIDR(_Equal):
    """An address with a prefix length; the host bits are kept."""

    interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, eq=False)
class Quantity(_Equal):
    """A quantity. `integer` says whether Kubernetes keeps it as a whole number, which is not a matter of its value."""

    value: Fraction
    integer: bool


def _ip(source: object) -> IP:
    if isinstance(source, CIDR):  # the method: cidr(x).ip()
        return IP(source.interface.ip)
    address = ipaddress.ip_address(str(source))
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise ValueError(f"{source} has a zone or is a mapped address")
    return IP(address)


def _cidr(source: object) -> CIDR:
    if _PREFIX.fullmatch(str(source)) is None:  # Python would take 10.0.0.1/255.0.0.0, and 10.0.0.1 too
        raise ValueError(f"{source} is no network")
    interface = ipaddress.ip_interface(str(source))
    if isinstance(interface, ipaddress.IPv6Interface) and interface.ip.ipv4_mapped:
        raise ValueError(f"{source} is a mapped address")
    return CIDR(interface)


def _quantity(source: object) -> Quantity:
    text = str(source)
    value = exact_quantity(text)
    return Quantity(value, _kept_as_integer(text) and abs(value) < 2**63)


def _kept_as_integer(text: str) -> bool:
    """Whether Kubernetes keeps a quantity as an integer: what is long, large or finer than one it keeps as a decimal.

    (So neither 1.5Gi nor 100Ti is "an integer". The figures are ParseQuantity's.)
    """
    whole, part, suffix = _NUMBER.fullmatch(text).groups(default="")  # type: ignore[union-attr]  # every text matches
    if suffix in _BITS:
        return not part and 15 - len(whole or "0") - int(_BITS[suffix] * 3 / 10) - 1 >= 0
    scale = (_DIGITS[suffix] if suffix in _DIGITS else int(suffix[1:])) - len(part)
    return scale >= 0 and len(whole or "0") + len(part) <= 18


def _is(read: Any) -> Any:  # noqa: ANN401 - one of the readers above
    def check(text: object) -> BoolType:
        try:
            read(text)
        except ValueError:
            return BoolType(False)
        return BoolType(True)

    return check


def _family(ip: IP) -> IntType:
    return IntType(ip.address.version)


def _is_global_unicast(ip: IP) -> BoolType:
    # Go's netip: private addresses count, the limited broadcast address does not
    a = ip.address
    broadcast = a == ipaddress.IPv4Address("255.255.255.255")
    return BoolType(not (broadcast or a.is_unspecified or a.is_loopback or a.is_multicast or a.is_link_local))


def _prefix_length(cidr: CIDR) -> IntType:
    return IntType(cidr.interface.network.prefixlen)


def _masked(cidr: CIDR) -> CIDR:
    return CIDR(ipaddress.ip_interface(cidr.interface.network))


def _contains_ip(cidr: CIDR, ip: object) -> BoolType:
    inner = ip if isinstance(ip, IP) else _ip(ip)
    return BoolType(inner.address in cidr.interface.network)


def _is_integer(quantity: Quantity) -> BoolType:
    return BoolType(quantity.integer)


def _as_integer(quantity: Quantity) -> IntType:
    if not quantity.integer:
        raise ValueError("cannot convert value to integer")
    return IntType(int(quantity.value))


def _compare(one: Quantity, other: Quantity) -> IntType:
    return IntType((one.value > other.value) - (one.value < other.value))


FUNCTIONS: Mapping[str, Any] = {
    "isIP": _is(_ip),
    "ip": _ip,
    "family": _family,
    "isGlobalUnicast": _is_global_unicast,
    "isCIDR": _is(_cidr),
    "cidr": _cidr,
    "prefixLength": _prefix_length,
    "masked": _masked,
    "containsIP": _contains_ip,
    "isQuantity": _is(_quantity),
    "quantity": _quantity,
    "isInteger": _is_integer,
    "asInteger": _as_integer,
    "compareTo": _compare,
}
"""By name; a method gets its object as the first argument."""
