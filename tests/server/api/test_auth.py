from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from clap_server.api import auth
from clap_server.api.app import ROUTES
from clap_server.api.auth import FAILURES_ALLOWED, SESSION_S, Authenticator
from tests.support.running_server import TOKEN, Client, ReadyHolder, running

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
    assert problem["type"] == "/problems/not-signed-in"
    problem = await client.json(route.method, path, status=401, headers=WRONG)
    assert problem["type"] == "/problems/wrong-token"


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


async def test_many_wrong_tokens_have_to_wait_but_the_right_one_goes_on(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(FAILURES_ALLOWED):
        await client.json("GET", "/api/info", status=401, headers=WRONG)
    async with client.request("GET", "/api/info", headers=WRONG) as response:
        assert response.status == 429
        assert 0 < int(response.headers["Retry-After"]) <= 60
    await client.json("POST", "/api/session", status=429, json={"token": "guess"}, headers={})
    await client.json("GET", "/api/info")
    assert caplog.text.count("Many wrong tokens") == 1
    assert "not-the-token" not in caplog.text


def test_waiting_ends_after_a_minute() -> None:
    now = 1000.0
    authenticator = Authenticator(TOKEN, "server-id", now=lambda: now)
    for _ in range(FAILURES_ALLOWED):
        assert authenticator.refuse("10.0.0.1").status == 401
    assert authenticator.refuse("10.0.0.1").status == 429
    assert authenticator.refuse("10.0.0.2").status == 401, "another address"
    now += 61
    assert authenticator.refuse("10.0.0.1").status == 401


def test_memory_of_wrong_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_ADDRESSES", 3)
    authenticator = Authenticator(TOKEN, "server-id")
    for number in range(10):
        authenticator.refuse(f"10.0.0.{number}")
    assert len(authenticator._failures) == 3


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


async def test_cookie_lets_in_until_signed_out(browser: Client) -> None:
    assert (await browser.json("GET", "/api/session", headers={})) == {"cookie": True}
    await browser.json("GET", "/api/info", headers={})
    await browser.json("DELETE", "/api/session", status=204, headers={})
    await browser.json("GET", "/api/info", status=401, headers={})


async def test_token_is_no_cookie_session(client: Client) -> None:
    assert (await client.json("GET", "/api/session")) == {"cookie": False}


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1"])
async def test_cookie_of_another_sites_page_changes_nothing(browser: Client, origin: str | None) -> None:
    headers = {"Origin": origin} if origin else {}
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    problem = await browser.json("POST", "/api/microphones", status=403, headers=headers, json=body)
    assert problem["type"] == "/problems/other-origin"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with browser.socket(headers=headers):
            pass
    assert refused.value.status == 403


async def test_cookie_of_the_own_page_changes_things(browser: Client) -> None:
    body = {"name": "Hall", "source": {"type": "push"}, "labels": [{"label": "alarm"}]}
    await browser.json("POST", "/api/microphones", status=201, headers=_origin(browser), json=body)
    async with browser.socket(headers=_origin(browser)) as socket:
        assert (await socket.receive_json(timeout=30))["type"] == "info"


def test_cookie_ends_with_its_time_and_with_the_token() -> None:
    now = 1_000_000.0
    authenticator = Authenticator(TOKEN, "server-id", now=lambda: now)
    cookie = authenticator.new_session()
    assert authenticator.session_is_valid(cookie)
    assert not Authenticator("another-token", "server-id", now=lambda: now).session_is_valid(cookie)
    issued, _, signature = cookie.partition(".")
    for forged in (
        "",
        ".",
        "x",
        f"{int(issued) + 1}.{signature}",
        f"{issued}.",
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
            assert problem["type"] == "/problems/not-ingress"
        async with client.request("GET", "/") as response:
            assert response.status == 403


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
