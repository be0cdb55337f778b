"""What is put where it does not belong: texts, numbers, structures, metadata, and YAML as it may be misread."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

Json = Any
MEGABYTE = 2**20

# each is written behind or before a good value; all of it would do something in a configuration file or a shell
INJECTED = st.sampled_from(
    [
        "\n",
        "\r\n",
        "\nrespawn root /bin/sh",
        "\n}\nresource evil { protocol A; }",
        '"; allow-two-primaries yes; #',
        "\nlun evil 1 1 - x x x x ../../etc/shadow 1",
        "\nend\n",
        "\u2028node evil",
        "\u0085ping 1.1.1.1",
        "\x0bcrm on",
        "\x00",
        "\x1b[2J",
        "\u202egpj.exe",
        "\u200b",
        "\ufeff",
        " ",
        "\t",
        "$(reboot)",
        "`reboot`",
        "; reboot",
        "| sh",
        "&& reboot",
        "$IFS",
        "../../../etc/passwd",
        "/../../etc/shadow",
        "%2e%2e%2f",
        "'",
        '"',
        "\\",
        "#",
        "*",
        "{{ .Values }}",
        "${HOME}",
        "%s%n",
    ]
)

TEXTS = st.one_of(
    st.sampled_from([63, 64, 253, 254, 1024, 100_000]).map(lambda length: "a" * length),
    st.just("a" * MEGABYTE),
    st.text(alphabet=string.punctuation + string.whitespace, min_size=1, max_size=40),
    st.text(min_size=1, max_size=40),
    st.sampled_from(
        [
            "",
            "bоnd0",  # noqa: RUF001 - that is what it is for: a Cyrillic letter
            "\uff11\uff10.10.25.1/24",
            "\u0661\u0660.10.25.1/24",
            "010.010.025.001/24",
            "0x0a.10.25.1/24",
            "10.10.25.1/024",
            "::ffff:10.10.25.1/120",
            "/dev/./vdb",
            "/dev//vdb",
            "/dev/vdb/..",
            "/dev/mapper/$(reboot)",
            "-rf",
            "--help",
            "null",
            "~",
            "1e1000Gi",
            "9" * 18 + "Pi",
            "2026-02-30T00:00:00Z",
            "0000-00-00T00:00:00Z",
            "2026-01-31T12:34:56+99:99",
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+23:59",
        ]
    ),
)

NUMBERS = st.sampled_from(
    [2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, -1, 0, 1.0, 7788.0, 1e3, 1e308, -0.0, 0.1]
)


def nested(depth: int, *, lists: bool) -> Json:
    """So many brackets."""
    value: Json = "x"
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


STRUCTURES = st.one_of(
    st.builds(lambda depth, lists: nested(depth, lists=lists), st.sampled_from([2, 50, 400]), st.booleans()),
    st.sampled_from([10, 1000, 20_000]).map(lambda length: ["a"] * length),
    st.sampled_from([1000]).map(lambda length: [{"name": f"n{number}"} for number in range(length)]),
    st.sampled_from([{"$ref": "#"}, {"": ""}, {"__proto__": {"x": 1}}, {"a.b": 1}, {"\n": "\n"}, [[]], [None], [[[]]]]),
)

OWNER = {"apiVersion": "v1", "kind": "Node", "name": "n901a", "uid": "00000000-0000-4000-8000-000000000001"}
METADATA = st.sampled_from(
    [
        ("metadata.annotations", {"example.org/x": "a" * MEGABYTE}),
        ("metadata.annotations", {"example.org/x": "a" * 200_000}),
        ("metadata.annotations", {"storagepair.dev/abandon": "true\n" * 1000}),
        ("metadata.annotations", {"storagepair.dev/abandon": "true"}),
        ("metadata.annotations", {"a\nb": "c"}),
        ("metadata.annotations", {"example.org/x": 5}),
        ("metadata.annotations", []),
        ("metadata.labels", {"storagepair.dev/pair": "vmstore"}),
        ("metadata.labels", {"x": "a" * 64}),
        ("metadata.labels", {"x": "$(reboot)"}),
        ("metadata.labels", "x"),
        ("metadata.finalizers", ["storagepair.dev/host"]),
        ("metadata.finalizers", ["storagepair.dev/host", "example.org/x", "storagepair.dev/host"]),
        ("metadata.finalizers", ["x"]),
        ("metadata.finalizers", ["example.org/a\nb"]),
        ("metadata.finalizers", ["foregroundDeletion", "orphan"]),
        ("metadata.finalizers", [f"example.org/x{number}" for number in range(200)]),
        ("metadata.ownerReferences", [OWNER]),
        ("metadata.ownerReferences", [{**OWNER, "controller": True, "blockOwnerDeletion": True}] * 2),
        ("metadata.ownerReferences", [{**OWNER, "uid": ""}]),
        ("metadata.ownerReferences", [{**OWNER, "apiVersion": "storagepair.dev/v1alpha1", "kind": "StorageNode"}]),
        ("metadata.ownerReferences", {}),
        ("metadata.deletionTimestamp", "2026-01-31T12:34:56Z"),
        ("metadata.deletionTimestamp", "never"),
        ("metadata.deletionGracePeriodSeconds", -5),
        ("metadata.creationTimestamp", "1970-01-01T00:00:00Z"),
        ("metadata.creationTimestamp", "soon"),
        ("metadata.uid", "n901a"),
        ("metadata.generation", -7),
        ("metadata.managedFields", [{"manager": "x", "operation": "Steal"}]),
        ("metadata.managedFields", "x"),
        ("metadata", {"generateName": "@NAME-"}),
        ("metadata", {"generateName": "a" * 300}),
        ("metadata", {"generateName": "../"}),
        ("metadata", {"generateName": "A.b"}),
        ("metadata", {}),
        ("metadata", []),
        ("metadata.name", "a" * 63),
        ("metadata.name", "a" * 64),
        ("metadata.name", "a" * 254),
        ("metadata.name", "../vmstore"),
        ("metadata.name", "vm.store"),
        ("metadata.name", "vm\nstore"),
        ("metadata.name", "VMSTORE"),
        ("metadata.name", "-"),
        ("metadata.name", ""),
        ("metadata.name", 7),
        ("metadata.namespace", "bystander"),
        ("kind", "Secret"),
        ("apiVersion", "v1"),
        ("apiVersion", "storagepair.dev/v1"),
        ("status", {"number": 1, "serial": "stolen", "phase": "Running", "startTime": "2026-01-31T12:34:56Z"}),
        ("status", "x"),
    ]
)

_HEAD = "apiVersion: storagepair.dev/v1alpha1\nkind: LUN\nmetadata: {name: '@NAME'}\n"
_ACL_HEAD = _HEAD.replace("LUN", "InitiatorACL")
_LUN = "spec: {pairRef: {name: vmstore}, size: 64Mi}\n"
RAW = [
    ("LUN", _HEAD + _LUN + "spec: {pairRef: {name: vmstore}, size: 1Mi}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: 64Mi, size: 1Mi}\n"),
    ("LUN", _HEAD + "spec: &a {pairRef: {name: vmstore}, size: 64Mi, loop: *a}\n"),
    ("LUN", _HEAD + "spec: {<<: &a {pairRef: {name: vmstore}}, size: 64Mi}\n"),
    ("LUN", _HEAD + "spec:\n\tsize: 64Mi\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: 64Mi, number: 0o17}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: 64Mi, number: 1_7}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: 64Mi, number: 1e1}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: 64Mi, number: .inf}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: 64Mi, number: .nan}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: yes}, size: 64Mi}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: 67108864}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: !!binary NjRNaQ==}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: !!python/object/apply:os.system [reboot]}\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: |\n  64Mi\n}\n"),
    ("LUN", _HEAD + "spec:\n  pairRef: {name: vmstore}\n  size: |\n    64Mi\n"),
    ("LUN", _HEAD + "spec: [pairRef, size]\n"),
    ("LUN", _HEAD + "spec: null\n"),
    ("LUN", _HEAD + _LUN + "---\n" + _HEAD + _LUN),
    ("LUN", "\ufeff" + _HEAD + _LUN),
    ("LUN", _HEAD + _LUN + "# \x00\n"),
    ("LUN", _HEAD + "spec: {pairRef: {name: vmstore}, size: 64Mi, ? [a, b] : c}\n"),
    ("LUN", _HEAD + "spec: " + "[" * 20_000 + "\n"),
    (
        "LUN",
        _HEAD + "spec: {" + ", ".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9 if n else ''}x]" for n in range(9)) + "}\n",
    ),
    ("LUN", "7\n"),
    ("LUN", ""),
    ("LUN", "%YAML 9.9\n---\n" + _HEAD + _LUN),
    ("InitiatorACL", _ACL_HEAD + "spec: {pairRef: {name: vmstore}, addresses: [10.10.25.0/24, 10.10.25.0/24]}\n"),
    ("InitiatorACL", _ACL_HEAD + "spec: {pairRef: {name: vmstore}, addresses: 10.10.25.0/24}\n"),
    ("InitiatorACL", _ACL_HEAD + "spec: {pairRef: {name: vmstore}, addresses: [10.10]}\n"),
    ("InitiatorACL", _ACL_HEAD + "spec: {pairRef: {name: vmstore}, addresses: [no]}\n"),
]
"""Kind and text."""
