"""What is installed on a host, rendered from its document."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from storagepair_node_agent import hostfiles
from unit.agent import agentbuilders as a

IPFAIL = "/usr/libexec/heartbeat/ipfail"
NAMED = sorted(path for path in Path(hostfiles.__file__).with_suffix("").iterdir() if not path.name.startswith("."))


def content(path, desired=None):
    desired = desired or a.desired()
    files = (*hostfiles.service_files(desired), *hostfiles.heartbeat_files(desired, IPFAIL))
    (found,) = [file for file in files if file.path == path]
    return found.content


def heartbeat(**more):
    spec = a.desired().spec.heartbeat
    return a.desired(heartbeat=type(spec)(**{**{f: getattr(spec, f) for f in spec.__struct_fields__}, **more}))


def test_ha_cf_says_the_port_before_the_links_that_use_it():
    lines = content(hostfiles.HA_CF).splitlines()
    ucast = [n for n, line in enumerate(lines) if line.startswith("ucast")]
    assert len(ucast) == 2
    assert lines.index("udpport 694") < min(ucast)


def test_ha_cf_leaves_nothing_to_a_default_that_differs():
    lines = content(hostfiles.HA_CF, heartbeat(deadtime_seconds=10, keepalive_seconds=1)).splitlines()
    wanted = {
        "deadtime 10",
        "initdead 20",
        "warntime 5",
        "auto_failback off",
        "crm off",
        "autojoin none",
        "use_logd off",
    }
    assert wanted <= set(lines)
    assert [line for line in lines if line.startswith("node ")] == ["node node1", "node node2"]


def test_ping_addresses_come_with_ipfail():
    assert f"respawn hacluster {IPFAIL}" in content(hostfiles.HA_CF, heartbeat(ping_addresses=("10.10.25.254",)))
    assert "respawn" not in content(hostfiles.HA_CF, heartbeat(ping_addresses=()))


def test_auto_failback_is_what_the_document_says():
    assert "auto_failback on\n" in content(hostfiles.HA_CF, heartbeat(auto_failback="Enabled"))


def test_haresources_is_the_same_on_both_hosts():
    assert content(hostfiles.HARESOURCES) == content(hostfiles.HARESOURCES, a.desired("node2"))
    assert content(hostfiles.HARESOURCES).splitlines()[-1] == "node1 storagepair"


def test_the_scripts_configuration_is_lines_of_key_and_value():
    lines = content(hostfiles.SERVICE_CONF).splitlines()[1:]
    values = dict(line.split(" ") for line in lines)
    assert values["node"] == "node1"
    assert values["peer"] == "node2"
    assert values["vip"] == "10.10.25.136"
    assert values["prefix"] == "24"
    assert values["device"] == "/dev/drbd0"


def test_authkeys_is_for_root_alone_and_its_key_in_no_representation():
    file = hostfiles.authkeys("ab" * 32)
    assert (file.mode, file.secret) == (0o600, True)
    assert hostfiles.key_of(file.content) == "ab" * 32
    assert "abab" not in repr(file)


@pytest.mark.parametrize("key", ["", "short", "x" * 64 + "\n2 crc", "ab ab ab ab ab ab ab ab"])
def test_what_is_no_key_is_refused_without_being_repeated(key):
    with pytest.raises(ValueError, match="not made of") as error:
        hostfiles.authkeys(key)
    assert not key or key not in str(error.value)


def test_every_file_of_ours_says_so():
    desired = a.desired()
    for file in (*hostfiles.service_files(desired), *hostfiles.heartbeat_files(desired, IPFAIL)):
        assert "storagepair" in file.content, file.path


def test_every_packaged_script_is_installed():
    installed = {Path(file.path).name for file in hostfiles.service_files(a.desired())}
    # the resource script goes to Heartbeat's folder, the boot script comes with the bonds
    assert {script.name for script in NAMED} - {"resource", "network-up"} <= installed


def test_the_port_table_is_one_that_nft_takes():
    done = subprocess.run(["nft", "-c", "-f", "-"], input=content(hostfiles.PORT_TABLE), capture_output=True, text=True)
    assert done.returncode == 0 or "Operation not permitted" in done.stderr, done.stderr


def test_the_port_of_the_virtual_ip_is_dropped_unless_it_is_open_and_never_refused():
    rules = content(hostfiles.PORT_TABLE)
    assert "ip daddr 10.10.25.136 tcp dport 3260 ip daddr != @open drop" in rules
    assert "ip saddr 10.10.25.136 tcp sport 3260 ip saddr != @open drop" in rules
    assert "reject" not in rules
    assert "elements" not in rules  # loaded, it is closed


@pytest.mark.parametrize("script", NAMED, ids=lambda path: path.name)
def test_scripts_are_posix_sh_without_eval(script):
    text = script.read_text()
    assert not any(line.strip().startswith(("eval ", "local ", "source ")) for line in text.splitlines())
    assert subprocess.run(["/bin/dash", "-n", str(script)], check=False).returncode == 0
