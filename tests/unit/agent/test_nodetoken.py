"""The node's own token: had when it is needed, renewed in time, and what is said when there is none to be had."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
import time

import pytest
from storagepair_node_agent import nodetoken
from storagepair_node_agent.api import Api, ApiError
from storagepair_node_agent.credentials import Credentials, CredentialsError
from storagepair_node_agent.loop import Follower
from storagepair_node_agent.nodetoken import NodeToken, NoIdentity
from storagepair_node_agent.transport import Transport
from unit.agent.apiserver import NODES, Server

MINT = "/api/v1/namespaces/ns/serviceaccounts/storagenode-node1/token"


@pytest.fixture
def server():
    running = Server()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def token(server):
    return made(server)


def made(server, **pod):
    pod = Credentials(server.url, ssl.create_default_context(), **{"token": "pod", "namespace": "ns", **pod})
    return NodeToken(pod, Transport(pod.server, pod.tls), "node1")


def grants(server, text="t1", seconds=3600):
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds + server.ahead)
    server.answers[MINT] = (201, {"status": {"token": text, "expirationTimestamp": f"{end:%Y-%m-%dT%H:%M:%SZ}"}})


def minted(server):
    return [request for request in server.requests if request[1] == MINT]


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


def test_it_is_asked_for_once_with_the_pods_own(server, token):
    grants(server)
    assert token.headers() == token.headers() == bearer("t1")
    ((method, _, _, headers, body),) = minted(server)
    assert (method, headers["Authorization"], headers["Content-Type"]) == ("POST", "Bearer pod", "application/json")
    assert json.loads(body)["spec"] == {"expirationSeconds": 3600}


def at(monkeypatch, seconds):
    """The clock, so many seconds from now."""
    now = time.monotonic()
    monkeypatch.setattr(nodetoken.time, "monotonic", lambda: now + seconds)


class TestRenewal:
    def test_comes_in_time_and_not_before(self, server, token, monkeypatch):
        grants(server)
        token.headers()
        grants(server, "t2")
        at(monkeypatch, 3600 * 0.6)
        assert token.headers() == bearer("t1")
        at(monkeypatch, 3600 * 0.75)
        assert token.headers() == bearer("t2")

    def test_that_fails_leaves_the_old_one_until_its_end(self, server, token, monkeypatch, caplog):
        grants(server)
        token.headers()
        server.answers[MINT] = (500, {"message": "not now"})
        at(monkeypatch, 3600 * 0.75)
        assert token.headers() == token.headers() == bearer("t1")
        assert len(minted(server)) == 2, "not at every request"
        assert "is not renewed yet" in caplog.text
        assert "t1" not in caplog.text
        at(monkeypatch, 3600)
        with pytest.raises(ApiError, match="not now"):
            token.headers()
        at(monkeypatch, 3602)
        grants(server, "t3")
        assert token.headers() == bearer("t3")

    def test_goes_by_what_the_server_granted_and_by_its_clock(self, server, token, monkeypatch):
        server.ahead = 86400.0
        grants(server, seconds=600)
        token.headers()
        grants(server, "t2")
        at(monkeypatch, 600 * 0.75)
        assert token.headers() == bearer("t2")


class TestWithout:
    def test_an_account_it_says_who_makes_it_and_when(self, server, token):
        with pytest.raises(NoIdentity, match=r"storagenode-node1 yet.*operator makes it.*names node node1") as error:
            token.headers()
        assert error.value.status == 0, "or a StorageNode would be taken for absent"

    @pytest.mark.parametrize("status", [401, 403])
    def test_leave_it_says_what_the_server_said(self, server, token, status):
        server.answers[MINT] = (status, {"message": "an agent gets the token of the node that its pod runs on"})
        with pytest.raises(NoIdentity, match=r"does not get the identity of node node1: .*its pod runs on"):
            token.headers()

    def test_an_answer_that_makes_sense_nothing_of_it_is_told(self, server, token):
        server.answers[MINT] = (201, {"status": {"token": "hush", "expirationTimestamp": "never"}})
        with pytest.raises(ApiError, match="holds no token") as error:
            token.headers()
        assert "hush" not in str(error.value)

    def test_a_token_of_the_pods_own(self, server, tmp_path):
        with pytest.raises(ApiError, match="the pod's own token can't be read"):
            made(server, token_file=tmp_path / "missing", token=None).headers()

    def test_a_namespace(self, server):
        with pytest.raises(CredentialsError, match="namespace"):
            made(server, namespace=None)


def test_who_waited_for_a_refusal_does_not_ask_again(server, token, monkeypatch):
    monkeypatch.setattr(nodetoken, "_SAME_ANSWER_SECONDS", 3600)  # however late a thread comes on a busy machine
    refusals = []

    def ask():
        with pytest.raises(NoIdentity) as error:
            token.headers()
        refusals.append(error.value)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 5
    assert len(minted(server)) == 1


class TestTheClient:
    """With a token that the API server takes for another one meanwhile: an account that was made anew."""

    def api(self, server):
        pod = Credentials(server.url, ssl.create_default_context(), token="pod", namespace="ns")
        transport = Transport(pod.server, pod.tls)
        return Api(transport, NodeToken(pod, transport, "node1"), "node1")

    def test_a_token_that_is_not_taken_is_replaced_once(self, server):
        good = {"t1"}

        def node(headers):
            taken = headers["Authorization"].removeprefix("Bearer ") in good
            return (200, {"metadata": {}}) if taken else (401, {"message": "Unauthorized"})

        server.answers[f"{NODES}/node1"] = node
        api = self.api(server)
        grants(server, "t1")
        assert api.get() == {"metadata": {}}
        good.clear()
        grants(server, "t2")
        with pytest.raises(ApiError) as error:
            api.get()
        assert error.value.status == 401
        assert len(minted(server)) == 2
        good.add("t3")
        grants(server, "t3")
        assert api.get() == {"metadata": {}}

    def test_the_follower_waits_for_its_identity_and_then_follows(self, server, caplog):
        caplog.set_level("INFO")
        server.answers[f"{NODES}/node1"] = (200, {"metadata": {"name": "node1", "resourceVersion": "1", "uid": "u"}})
        follower = Follower(self.api(server), lambda: None)
        follower.start()
        assert follower.answered.wait(60)
        deadline = time.monotonic() + 60
        while len(minted(server)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert follower.latest is None
        grants(server)
        while follower.latest is None and time.monotonic() < deadline + 20:
            time.sleep(0.05)
        assert follower.latest is not None
        waiting = [record for record in caplog.records if "storagenode-node1 yet" in record.message]
        assert len(waiting) == 1, "said once"


def test_a_busy_server_is_left_alone_for_as_long_as_it_says(server):
    transport = Transport(server.url, ssl.create_default_context())
    server.answers["/x"] = (429, {"message": "busy"})
    for text, seconds in (("7", 7), ("86400", 60), ("soon", 0)):
        server.headers["/x"] = {"Retry-After": text}
        with pytest.raises(ApiError) as error:
            transport.json("GET", "/x", headers={})
        assert (error.value.status, error.value.retry_after_seconds) == (429, seconds)
