"""Kubernetes' additions to CEL. Whole rules against the API server: tests/api/test_validate.py."""

from __future__ import annotations

import ipaddress
from typing import Any

import celpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from storagepair_cli.kubernetescel import FUNCTIONS

ENVIRONMENT = celpy.Environment()


def evaluate(text: str) -> Any:
    return ENVIRONMENT.program(ENVIRONMENT.compile(text), functions=dict(FUNCTIONS)).evaluate({})


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("10.10.25.131", True),
        ("10.10.25.0131", False),
        ("10.10.25.256", False),
        ("fd00::1", True),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("10.0.0.0/8", False),
        ("", False),
    ],
)
def test_is_ip(text: str, good: bool) -> None:
    assert evaluate(f"isIP('{text}')") == good


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("10.10.25.131/24", True),
        ("10.10.25.131", False),
        ("10.10.25.131/024", False),
        ("10.10.25.131/33", False),
        ("10.10.25.131/255.255.255.0", False),
        ("fd00::1/64", True),
        ("::ffff:10.0.0.1/96", False),
    ],
)
def test_is_cidr(text: str, good: bool) -> None:
    assert evaluate(f"isCIDR('{text}')") == good


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("10.0.0.1", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("169.254.0.1", False),
        ("240.0.0.1", True),
    ],
)
def test_is_global_unicast(address: str, good: bool) -> None:
    assert evaluate(f"ip('{address}').isGlobalUnicast()") == good


@pytest.mark.parametrize(
    "text",
    [
        "cidr('10.0.0.7/24').masked() == cidr('10.0.0.0/24')",
        "cidr('10.0.0.7/24') != cidr('10.0.0.0/24')",
        "cidr('10.0.0.7/24').ip() == ip('10.0.0.7')",
        "cidr('10.0.0.7/24').ip().family() == 4",
        "ip('fd00::1').family() == 6",
        "cidr('10.0.0.7/24').prefixLength() == 24",
        "cidr('10.0.0.7/24').containsIP(ip('10.0.0.9')) && cidr('10.0.0.7/24').containsIP('10.0.0.9')",
        "!cidr('10.0.0.7/24').containsIP(ip('10.0.1.9')) && !cidr('10.0.0.7/24').containsIP('fd00::1')",
        "quantity('1Gi').compareTo(quantity('1024Mi')) == 0",
        "quantity('1Gi').compareTo(quantity('1G')) == 1 && quantity('1m').compareTo(quantity('1')) == -1",
        "quantity('64Mi').asInteger() == 67108864",
        "isQuantity('1.5') && isQuantity('100m') && !isQuantity('1Gib') && !isQuantity('')",
        # an error on one side of || does not matter when the other one is true
        "ip('nonsense').family() == 4 || true",
    ],
)
def test_holds(text: str) -> None:
    assert evaluate(text)


@pytest.mark.parametrize("text", ["ip('x')", "cidr('10.0.0.1')", "quantity('x')", "quantity('1.5Gi').asInteger()"])
def test_errors(text: str) -> None:
    with pytest.raises(celpy.evaluation.CELEvalError):
        evaluate(text)


@pytest.mark.parametrize(
    ("text", "integer"),
    [
        ("67108864", True),
        ("0", True),
        ("64Mi", True),
        ("1.5Gi", False),
        ("1.5k", True),
        ("1.0", False),
        ("100m", False),
        ("1e3", True),
        ("10Ti", True),
        ("100Ti", False),
        ("1Pi", False),
        ("100T", True),
        ("999999999999999P", False),
        ("0009Gi", True),
    ],
)
def test_what_kubernetes_keeps_as_an_integer(text: str, integer: bool) -> None:
    assert evaluate(f"quantity('{text}').isInteger()") == integer


@given(st.text(max_size=30))
def test_any_text_gets_an_answer(text: str) -> None:
    for name in ("isIP", "isCIDR", "isQuantity"):
        assert FUNCTIONS[name](text) in (True, False)
    if FUNCTIONS["isQuantity"](text):
        FUNCTIONS["isInteger"](FUNCTIONS["quantity"](text))


@given(st.ip_addresses(), st.integers(0, 32))
def test_networks_agree_with_the_standard_library(address: Any, bits: int) -> None:
    text = f"{address}/{bits}"
    if not FUNCTIONS["isCIDR"](text):
        assert isinstance(address, ipaddress.IPv6Address)
        return
    masked = FUNCTIONS["masked"](FUNCTIONS["cidr"](text))
    assert masked.interface.network == ipaddress.ip_network(text, strict=False)
    assert FUNCTIONS["containsIP"](masked, str(address))
