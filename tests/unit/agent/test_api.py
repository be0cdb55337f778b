"""The API client against a little HTTP server that answers as the API server does."""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
from types import SimpleNamespace

import pytest
import yaml
from storagepair_crds import views
from storagepair_node_agent import credentials, loop
from storagepair_node_agent.api import Api, ApiError, Change
from storagepair_node_agent.loop import Follower
from storagepair_node_agent.transport import Transport
from unit.agent.apiserver import NODES, Server

REFERENCE = views.AuthkeysReference(namespace="ns", name="keys")


@pytest.fixture
def server():
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def api(server):
    return client(server.url, token="t0")


def client(url, **user):
    user = credentials.Credentials(url, ssl.create_default_context(), **user)
    return Api(Transport(user.server, user.tls), user, "node1")


def node(version="1", **more):
    return {"metadata": {"name": "node1", "resourceVersion": version, "generation": 1, "uid": "u", **more}, "spec": {}}


def test_get(server, api):
    assert api.get() is None
    server.answers[f"{NODES}/node1"] = (200, node())
    assert api.get() == node()
    assert server.requests[-1][3]["Authorization"] == "Bearer t0"


def test_patch_status(server, api):
    server.answers[f"{NODES}/node1/status"] = (200, node("2"))
    assert api.patch_status({"agentVersion": "1"}) == node("2")
    method, _, _, headers, body = server.requests[-1]
    assert (method, headers["Content-Type"]) == ("PATCH", "application/merge-patch+json")
    assert json.loads(body) == {"status": {"agentVersion": "1"}}


def test_a_lease_is_renewed_and_nothing_else_of_it_is_touched(server, api):
    path = "/apis/coordination.k8s.io/v1/namespaces/storagepair-system/leases/storagenode-node1"
    with pytest.raises(ApiError) as missing:
        api.renew_lease()
    assert missing.value.status == 404
    server.answers[path] = (200, {})
    api.renew_lease()
    method, _, _, headers, body = server.requests[-1]
    assert (method, headers["Content-Type"]) == ("PATCH", "application/merge-patch+json")
    spec = json.loads(body)["spec"]
    assert (set(spec), spec["holderIdentity"]) == ({"holderIdentity", "renewTime"}, "node1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", spec["renewTime"])


def test_refusals_and_silence(server, api):
    server.answers[f"{NODES}/node1"] = (403, {"message": "not yours"})
    with pytest.raises(ApiError, match="403 not yours") as refused:
        api.get()
    assert refused.value.status == 403
    server.answers[f"{NODES}/node1"] = (200, b"no json")
    with pytest.raises(ApiError, match="unreadable"):
        api.get()
    away = client("http://127.0.0.1:1")
    with pytest.raises(ApiError, match="does not answer"):
        away.get()


def test_watch(server, api):
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "5"}}}
    modified = json.dumps({"type": "MODIFIED", "object": node("6")}).encode() + b"\n"
    deleted = {"type": "DELETED", "object": node("7")}
    server.events = [[bookmark, modified[:10], modified[10:], deleted]]
    assert list(api.watch("4")) == [None, Change(node("6"), deleted=False), Change(node("7"), deleted=True)]
    query = server.requests[-1][2]
    for part in ("fieldSelector=metadata.name%3Dnode1", "resourceVersion=4", "allowWatchBookmarks=true"):
        assert part in query


def test_a_watch_that_is_too_old(server, api):
    server.events = [[{"type": "ERROR", "object": {"code": 410, "message": "too old"}}]]
    with pytest.raises(ApiError) as gone:
        list(api.watch("4"))
    assert gone.value.status == 410


def test_a_watch_that_speaks_nonsense(server, api):
    server.events = [[b"nonsense\n"]]
    with pytest.raises(ApiError, match="watch broke"):
        list(api.watch("4"))


def test_the_clocks_are_compared(server, api):
    server.ahead = -100
    began = time.monotonic()
    api.get()
    offset = api.clock_offset_seconds
    assert 99 <= offset <= 101 + time.monotonic() - began, "its Date has whole seconds, and the answer was on its way"


class TestTheSecret:
    PATH = "/api/v1/namespaces/ns/secrets/keys"

    def test_is_read(self, server, api):
        server.answers[self.PATH] = (200, {"data": {"authkey": base64.b64encode(b"abc\n").decode()}})
        assert api.authkey(REFERENCE) == "abc"

    @pytest.mark.parametrize("content", [{}, {"data": None}, {"data": {"other": "x"}}, {"data": {"authkey": "hush!"}}])
    def test_errors_hold_nothing_of_it(self, server, api, content):
        server.answers[self.PATH] = (200, content)
        with pytest.raises(ApiError) as error:
            api.authkey(REFERENCE)
        assert "hush" not in str(error.value)


def test_the_follower_goes_through_deletion_expiry_and_outage(server, api):
    server.answers[f"{NODES}/node1"] = (200, node("1"))
    server.events = [
        [{"type": "MODIFIED", "object": node("2", generation=2)}],
        [{"type": "ERROR", "object": {"code": 410}}],
        [{"type": "DELETED", "object": node("3", generation=2)}, {"type": "ADDED", "object": node("4", uid="u2")}],
    ]
    woken = []
    follower = Follower(api, lambda: woken.append(follower.latest))
    follower.start()
    deadline = time.monotonic() + 60
    while len(woken) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = [w and (w["metadata"]["uid"], w["metadata"]["generation"]) for w in woken[:6]]
    assert seen == [("u", 1), ("u", 2), ("u", 1), None, ("u2", 1), ("u", 1)]
    assert follower.answered.is_set()


@pytest.fixture
def pauses(monkeypatch):
    """How long the follower wanted to wait, each time; it waits a moment only. By its clock all watches end at once."""
    made = []

    def sleep(seconds):
        made.append(seconds)
        time.sleep(0.02)

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep))
    return made


def watches(server):
    return [query for _, _, query, _, _ in server.requests if "watch=true" in query]


def test_an_object_older_than_the_servers_memory_is_watched_from_now(server, api, pauses):
    """Reading it again gives the same old version: without a pause that was a storm, with one a blind agent."""
    server.answers[f"{NODES}/node1"] = (200, node("1"))
    gone = [{"type": "ERROR", "object": {"code": 410}}]
    server.events = [gone, [{"type": "ADDED", "object": node("1")}], *[gone] * 50]
    follower = Follower(api, lambda: None)
    follower.start()
    wait(lambda: len(watches(server)) >= 4)
    versions = ["resourceVersion=1" in query for query in watches(server)[:4]]
    assert versions == [True, False, True, False]
    wait(lambda: len(watches(server)) >= 5)
    assert len(pauses) >= 2, "even if that is gone too"


def test_watches_that_end_at_once_are_not_opened_again_at_once(server, api, pauses):
    server.answers[f"{NODES}/node1"] = (200, node("1"))
    server.events = [[]] * 100
    Follower(api, lambda: None).start()
    wait(lambda: len(watches(server)) >= 3)
    assert len(pauses) >= 2


def wait(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


class TestCredentials:
    def test_a_rotated_token_is_read_anew(self, server, tmp_path):
        path = tmp_path / "token"
        api = client(server.url, token_file=path)
        for token in ("t1", "t2"):
            path.write_text(f"{token}\n")
            api.get()
            assert server.requests[-1][3]["Authorization"] == f"Bearer {token}"
        path.unlink()
        with pytest.raises(ApiError):
            api.get()

    def kubeconfig(self, tmp_path, user, cluster=None):
        content = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": cluster or {"server": "https://k:6443"}}],
            "users": [{"name": "u", "user": user}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path

    def test_kubeconfig(self, tmp_path):
        seen = credentials.from_kubeconfig(self.kubeconfig(tmp_path, {"token": "abc"}))
        assert (seen.server, seen.headers()) == ("https://k:6443", {"Authorization": "Bearer abc"})
        seen = credentials.from_kubeconfig(self.kubeconfig(tmp_path, {"tokenFile": "token"}), "https://other")
        assert (seen.server, seen.token_file) == ("https://other", tmp_path / "token")

    @pytest.mark.parametrize(
        ("user", "cluster"),
        [
            ({"client-certificate": "missing.crt", "client-key": "missing.key"}, None),
            ({"client-certificate-data": "!", "client-key-data": "!"}, None),
            ({"token": "x"}, {"server": "https://k", "certificate-authority-data": base64.b64encode(b"x").decode()}),
            ({"token": "x"}, {"nothing": 1}),
        ],
    )
    def test_unusable_kubeconfigs_say_so(self, tmp_path, user, cluster):
        path = self.kubeconfig(tmp_path, user, cluster)
        with pytest.raises(credentials.CredentialsError, match="kubeconfig can't be used"):
            credentials.from_kubeconfig(path)
        with pytest.raises(credentials.CredentialsError):
            credentials.from_kubeconfig(tmp_path / "missing")

    def test_outside_of_a_pod(self, monkeypatch):
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        with pytest.raises(credentials.CredentialsError, match="--kubeconfig"):
            credentials.in_cluster()
