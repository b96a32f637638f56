from __future__ import annotations

import logging
import shutil
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from clap_server.api.app import ROUTES
from clap_server.api.authenticator import SESSION_S, Authenticator
from clap_server.api.trust import is_trusted
from clap_server.audio.encode import encode
from tests.server.listening.spectral import RATE, crash, scene
from tests.support.running_server import TOKEN, Client, ReadyHolder, running
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WRONG = {"Authorization": "Bearer not-the-token"}
GUARDED = [route for route in ROUTES if not route.public]


@pytest.fixture
async def browser(client: Client) -> AsyncIterator[Client]:
    """A client that signed in with a cookie, as the page does."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        browser = Client(client.server, session)
        await browser.json("POST", "/api/session", status=204, headers={}, json={"token": TOKEN})
        yield browser


def _origin(client: Client) -> dict[str, str]:
    return {"Origin": client.url}


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
async def test_route_is_closed_to_strangers(client: Client, route: Any) -> None:
    path = route.path.replace("{id}", "any")
    problem = await client.json(route.method, path, status=401, headers={})
    assert problem["type"] == "/problems/not_signed_in"
    assert ("--trusted-networks" in problem["detail"]) is route.trusted
    problem = await client.json(route.method, path, status=401, headers=WRONG)
    assert problem["type"] == "/problems/wrong_token"


async def test_strangers_are_told_nothing_of_unknown_addresses(client: Client) -> None:
    await client.json("GET", "/api/nothing", status=401, headers={})


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \u00fc",
    ],
)
async def test_header_that_is_not_right_is_refused(client: Client, header: str) -> None:
    await client.json("GET", "/api/info", status=401, headers={"Authorization": header})


async def test_scheme_is_read_in_any_case(client: Client) -> None:
    await client.json("GET", "/api/info", headers={"Authorization": f"bearer {TOKEN}"})


async def test_token_in_the_address_is_not_accepted(client: Client) -> None:
    await client.json("GET", f"/api/info?token={TOKEN}&access_token={TOKEN}", status=401, headers={})


async def test_wrong_tokens_are_told_in_the_log_and_lock_nobody_out(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):
        await client.json("GET", "/api/info", status=401, headers=WRONG)
        await client.json("POST", "/api/session", status=401, json={"token": "guess"}, headers={})
    # From the same address, as of everyone behind one proxy.
    await client.json("GET", "/api/info")
    assert caplog.text.count("Wrong access token from 127.0.0.1") == 1
    assert "not-the-token" not in caplog.text


def test_wrong_tokens_are_told_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    authenticator = Authenticator(TOKEN, "server-id", tmp_path / "signed_out", now=lambda: now)
    for _ in range(3):
        authenticator.tell_of_wrong_token("10.0.0.1")
    now += 61
    authenticator.tell_of_wrong_token("10.0.0.2")
    assert [record.args for record in caplog.records] == [("10.0.0.1", 1), ("10.0.0.2", 3)]


async def test_page_signs_in_with_a_cookie_that_scripts_cannot_read(client: Client) -> None:
    async with client.request("POST", "/api/session", headers={}, json={"token": TOKEN}) as response:
        assert response.status == 204
        cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie


async def test_wrong_token_does_not_sign_in(client: Client) -> None:
    problem = await client.json("POST", "/api/session", status=401, headers={}, json={"token": "wrong"})
    assert "clap-server token" in problem["detail"]
    await client.json("POST", "/api/session", status=422, headers={}, json={})
    await client.json("POST", "/api/session", status=400, headers={}, data=b"{")


async def test_sign_out_ends_the_cookie_for_good_and_no_other(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        cookies = []
        for _ in range(2):
            async with client.request("POST", "/api/session", headers={}, json={"token": TOKEN}) as response:
                cookies.append({"Cookie": response.headers["Set-Cookie"].partition(";")[0]})
        gone, other = cookies
        await client.json("DELETE", "/api/session", status=204, headers=gone | _origin(client))
        await client.json("GET", "/api/info", status=401, headers=gone)
        await client.json("GET", "/api/info", headers=other)
    assert (tmp_path / "signed_out").stat().st_mode & 0o777 == 0o600
    async with running(tmp_path) as client:
        await client.json("GET", "/api/info", status=401, headers=gone)
        await client.json("GET", "/api/info", headers=other)


async def test_sign_out_outlives_the_data_folder(tmp_path: Path) -> None:
    cookies = []
    for _ in range(2):
        async with running(tmp_path / "data") as client:
            async with client.request("POST", "/api/session", headers={}, json={"token": TOKEN}) as response:
                cookies.append({"Cookie": response.headers["Set-Cookie"].partition(";")[0]})
            await client.json("DELETE", "/api/session", status=204, headers=cookies[-1] | _origin(client))
            folder = client.server.context.store.folder
            shutil.rmtree(folder.root)
            assert not folder.is_whole()
            # As the server does every few seconds.
            folder.create()
            assert folder.is_whole()
            assert folder.signed_out.stat().st_mode & 0o777 == 0o600
    async with running(tmp_path / "data") as client:
        for cookie in cookies:
            await client.json("GET", "/api/info", status=401, headers=cookie)


async def test_stranger_signs_nobody_out(client: Client) -> None:
    name = client.server.context.authenticator.cookie_name
    for cookie in ("", "x", f"{int(time.time())}.abc.def"):
        await client.json("DELETE", "/api/session", status=204, headers={"Cookie": f"{name}={cookie}"})
    assert not (client.server.context.store.folder.root / "signed_out").exists()


def test_sessions_that_are_over_are_forgotten(tmp_path: Path) -> None:
    now = 1_000_000.0
    file = tmp_path / "signed_out"
    authenticator = Authenticator(TOKEN, "server-id", file, now=lambda: now)
    authenticator.end_session(authenticator.new_session())
    now += SESSION_S + 1
    authenticator.end_session(authenticator.new_session())
    assert len(file.read_text().split()) == 1


def test_sign_out_holds_though_it_cannot_be_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authenticator = Authenticator(TOKEN, "server-id", tmp_path / "not there" / "signed_out")
    cookie = authenticator.new_session()
    authenticator.end_session(cookie)
    assert not authenticator.session_is_valid(cookie)
    assert "only until the restart" in caplog.text
    (tmp_path / "damaged").write_bytes(b"\xff\xfe")
    assert Authenticator(TOKEN, "server-id", tmp_path / "damaged").session_is_valid(
        authenticator.new_session()
    )
    assert "valid again" in caplog.text


async def test_cookie_lets_in_until_signed_out(browser: Client) -> None:
    assert (await browser.json("GET", "/api/session", headers={})) == {"cookie": True}
    await browser.json("GET", "/api/info", headers={})
    await browser.json("DELETE", "/api/session", status=204, headers=_origin(browser))
    await browser.json("GET", "/api/info", status=401, headers={})


@pytest.mark.parametrize("path", ["/api/ws", "/api/microphones/hall/audio"])
async def test_sign_out_ends_the_sockets_of_its_session_and_no_other(browser: Client, path: str) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    await browser.json("PUT", "/api/microphones/hall", status=201, headers=_origin(browser), json=body)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        other = Client(browser.server, session)
        await other.json("POST", "/api/session", status=204, headers={}, json={"token": TOKEN})
        token = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            browser.socket(path, headers=_origin(browser)) as socket,
            other.socket(headers=_origin(other)) as others,
            browser.socket(headers=token) as programs,
        ):
            for each in (others, programs):
                assert (await each.receive_json(timeout=30))["type"] == "info"
            if path == "/api/ws":
                assert (await socket.receive_json(timeout=30))["type"] == "info"
            else:
                await until(lambda: "hall" in browser.server.context.pushers)
            await browser.json("DELETE", "/api/session", status=204, headers=_origin(browser))
            end = await socket.receive(timeout=30)
            assert (end.type, end.data) == (aiohttp.WSMsgType.CLOSE, 1008)
            for each in (others, programs):
                await each.send_json({"type": "subscribe", "after": None})
                assert (await each.receive_json(timeout=30))["type"] == "microphones"


async def test_token_is_no_cookie_session(client: Client) -> None:
    assert (await client.json("GET", "/api/session")) == {"cookie": False}


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1"])
async def test_page_of_another_site_signs_nobody_out(browser: Client, origin: str | None) -> None:
    headers = {"Origin": origin} if origin else {}
    problem = await browser.json("DELETE", "/api/session", status=403, headers=headers)
    assert problem["type"] == "/problems/other_origin"
    await browser.json("GET", "/api/info", headers={})


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1"])
async def test_cookie_of_another_sites_page_changes_nothing(browser: Client, origin: str | None) -> None:
    headers = {"Origin": origin} if origin else {}
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    problem = await browser.json("POST", "/api/microphones", status=403, headers=headers, json=body)
    assert problem["type"] == "/problems/other_origin"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with browser.socket(headers=headers):
            pass
    assert refused.value.status == 403


async def test_cookie_of_the_own_page_changes_things(browser: Client) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    await browser.json("POST", "/api/microphones", status=201, headers=_origin(browser), json=body)
    async with browser.socket(headers=_origin(browser)) as socket:
        assert (await socket.receive_json(timeout=30))["type"] == "info"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("clap.example:443", "https://clap.example"),
        ("clap.example", "https://clap.example:443"),
        ("clap.example:80", "http://clap.example"),
        ("clap.example", "http://clap.example:80"),
        ("clap.example:80", "https://clap.example"),
        ("CLAP.example", "https://clap.EXAMPLE"),
        ("clap.example:8443", "https://clap.example:8443"),
        ("[fd00::1]:443", "https://[fd00::1]"),
    ],
)
async def test_cookie_works_behind_a_proxy_however_it_writes_the_default_port(
    browser: Client, host: str, origin: str
) -> None:
    await _patch_as_page(browser, 404, host, origin)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("clap.example:8443", "https://clap.example"),
        ("clap.example", "https://clap.example:8443"),
        ("clap.example", "https://clap.example.evil"),
        ("clap.example", "https://evil.example"),
        ("clap.example", "https://clap.example@evil.example"),
        ("clap.example", "null"),
        ("clap.example", "https://[::"),
        ("clap.example", "//clap.example"),
        ("clap.example", "file://clap.example"),
        ("", ""),
    ],
)
async def test_cookie_of_another_place_is_refused_behind_a_proxy_too(
    browser: Client, host: str, origin: str
) -> None:
    await _patch_as_page(browser, 403, host, origin)


async def _patch_as_page(browser: Client, status: int, host: str, origin: str) -> None:
    headers = {"Host": host, "Origin": origin}
    for cookie in browser.session.cookie_jar:
        headers["Cookie"] = f"{cookie.key}={cookie.value}"
    await browser.json("PATCH", "/api/microphones/none", status=status, headers=headers, json={})


def test_cookie_ends_with_its_time_and_with_the_token(tmp_path: Path) -> None:
    now = 1_000_000.0
    file = tmp_path / "signed_out"
    authenticator = Authenticator(TOKEN, "server-id", file, now=lambda: now)
    cookie = authenticator.new_session()
    assert authenticator.session_is_valid(cookie)
    assert not Authenticator("another-token", "server-id", file, now=lambda: now).session_is_valid(cookie)
    issued, nonce, signature = cookie.split(".")
    for forged in (
        "",
        ".",
        "x",
        f"{int(issued) + 1}.{nonce}.{signature}",
        f"{issued}.0.{signature}",
        f"{issued}.{nonce}.",
        f"{cookie}0",
        "\udcff.\udcff",
    ):
        assert not authenticator.session_is_valid(forged)
    now += SESSION_S + 1
    assert not authenticator.session_is_valid(cookie)


async def test_ingress_trusts_the_supervisor_and_nobody_else(tmp_path: Path) -> None:
    async with running(tmp_path / "a", ingress_port=0, ingress_peers=frozenset({"127.0.0.1"})) as client:
        client.url = f"http://127.0.0.1:{client.server.ingress_port}"
        await client.json("GET", "/api/info", headers={})
        async with client.socket(headers={}) as socket:
            assert (await socket.receive_json(timeout=30))["type"] == "info"
        client.url = f"http://127.0.0.1:{client.server.port}"
        await client.json("GET", "/api/info", status=401, headers={})
    async with running(tmp_path / "b", ingress_port=0) as client:
        client.url = f"http://127.0.0.1:{client.server.ingress_port}"
        for headers in ({}, {"X-Forwarded-For": "172.30.32.2"}):
            problem = await client.json("GET", "/api/info", status=403, headers=headers)
            assert problem["type"] == "/problems/not_ingress"
        async with client.request("GET", "/") as response:
            assert response.status == 403


@pytest.fixture
async def trusting(tmp_path: Path) -> AsyncIterator[Client]:
    """A client in a network that its server trusts."""
    async with running(tmp_path / "data", trusted_networks="192.0.2.0/24, 127.0.0.0/8") as client:
        yield client


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
async def test_trusted_network_reads_what_is_no_sound_and_changes_nothing(
    trusting: Client, route: Any
) -> None:
    path = route.path.replace("{id}", "any")
    async with trusting.request(route.method, path, headers={}) as response:
        assert (response.status == 401) is not route.trusted
    assert not route.trusted or route.method == "GET" or path == "/api/classify"
    assert not route.trusted or not route.file
    # A wrong token is a fault to be told of, not to be passed over.
    await trusting.json(route.method, path, status=401, headers=WRONG)


async def test_script_of_a_trusted_network_has_its_recording_classified(trusting: Client) -> None:
    form = aiohttp.FormData(default_to_multipart=True)
    form.add_field("labels", "glass_breaking")
    form.add_field("audio", encode(scene(4.0, (1.0, crash())), RATE, "flac"), filename="bell.flac")
    answer = await trusting.json("POST", "/api/classify", headers={}, data=form)
    assert [entry["label"] for entry in answer["labels"]] == ["glass_breaking"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Referer": "http://rebound.example/"},
        {"Accept-Language": "en"},
        {"Host": "rebound.example:7860"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_neither_proxy_nor_page_is_a_trusted_network(trusting: Client, headers: dict[str, str]) -> None:
    await trusting.json("GET", "/api/info", status=401, headers=headers)


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("192.0.3.7", False),
        ("fd00::7%eth0", True),
        ("fd01::7", False),
        ("unknown", False),
    ],
)
def test_address_is_looked_up_in_the_networks(address: str, trusted: bool) -> None:
    networks = (ip_network("192.0.2.0/24"), ip_network("fd00::/16"))
    request = make_mocked_request("GET", "/api/info", headers={"Host": "192.0.2.1:7860"})
    assert is_trusted(request, address, networks) is trusted


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("192.168.1.7:7860", True),
        ("[fd00::7]:7860", True),
        ("homeassistant:7860", True),
        ("homeassistant.local:7860", True),
        ("clap.home.arpa", True),
        ("localhost.", True),
        ("rebound.example:7860", False),
        ("192.168.1.7.rebound.example", False),
        ("evillocal.example", False),
        ("[fd00::7", False),
    ],
)
def test_only_by_an_address_or_a_name_of_the_home(host: str, trusted: bool) -> None:
    request = make_mocked_request("GET", "/api/info", headers={"Host": host})
    assert is_trusted(request, "10.0.0.1", (ip_network("10.0.0.0/8"),)) is trusted


async def test_stranger_is_told_in_one_sentence_how_to_get_in(client: Client) -> None:
    problem = await client.json("POST", "/api/classify", status=401, headers={})
    assert problem["detail"] == (
        "Sign in on the server's page, or send the header 'Authorization: Bearer <token>'"
        " (curl -X POST -H 'Authorization: Bearer TOKEN' -F audio=@sound.wav -F 'labels=glass breaking'"
        f" '{client.url}/api/classify'), or let the network of the script do without by the setting"
        " --trusted-networks or CLAP_TRUSTED_NETWORKS"
    )


async def test_token_is_shown_in_the_log_at_the_first_start_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(tmp_path, holder=ReadyHolder(tmp_path), token=None) as client:
        token = client.server.token
        assert caplog.text.count(token) == 1
        await client.json("GET", "/api/info", headers={"Authorization": f"Bearer {token}"})
    caplog.clear()
    async with running(tmp_path, holder=ReadyHolder(tmp_path), token=None) as client:
        assert client.server.token == token
    assert token not in caplog.text
