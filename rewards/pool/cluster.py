"""The Ray cluster that a pool's workers live on: joined with a token, or started on this machine.

Ray is an optional extra and is loaded only here, when a pool is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import ipaddress
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
SECONDS_TO_REACH_A_CLUSTER = 5.0
# Ray's own names for what it is told by the environment.
AUTH_MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
# Off, Ray takes "127.0.0.1" for an address and does not put the host's outer one in its place.
OUTER_ADDRESSES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
NAMESPACE = "nextchapter"


def join_cluster(address: str | None, cpus: float, gpus: float) -> Any:
    """The `ray` module, connected to the cluster at `address`, `host:port`.

    Without an address a cluster of this process's own is started, with so many CPUs and GPUs, that
    listens on loopback and has a token that nobody else knows.

    Raises:
        ValueError: Ray is not installed, or there is no token, or it is the wrong one.
        ConnectionError: no cluster answers there.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(
            "scorer.kind: ray needs Ray; install it with: pip install 'nextchapter[ray]', or take "
            "scorer=ranks"
        )
    if address is None:
        _on_loopback()
        os.environ[AUTH_MODE] = "token"
        os.environ.pop(TOKEN_PATH, None)
        os.environ[TOKEN] = secrets.token_hex(32)
        return _init(address="local", num_cpus=cpus, num_gpus=gpus, include_dashboard=False)
    host, port = _host_and_port(address)
    is_local = _is_loopback(host)
    if is_local:
        _on_loopback()
    _check_token(is_local)
    _check_reachable(host, port)
    return _init(address=f"{host}:{port}", **({"_node_ip_address": LOOPBACK} if is_local else {}))


def _init(**how: Any) -> Any:
    # Ray would send home that it was used.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with _signals_kept():
        # Typed as anything, so that types are checked alike with the extra and without.
        ray: Any = importlib.import_module("ray")
        if how["address"] == "local":
            how["_node_ip_address"] = LOOPBACK
        try:
            ray.init(
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level="error",
                **how,
            )
        except ray.exceptions.AuthenticationError as error:
            raise ValueError(_wrong_token(str(how["address"]))) from error
        except (ConnectionError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
            if "auth" in f"{error} {error.__cause__}".lower():
                raise ValueError(_wrong_token(str(how["address"]))) from error
            raise ConnectionError(
                f"scorer.pool.address: no Ray cluster of this release of Ray at {how['address']} "
                f"({str(error).strip().splitlines()[0]}); start one with `ray start --head`"
            ) from error
    return ray


def _wrong_token(address: str) -> str:
    return (
        f"scorer.pool.address: the cluster at {address} does not accept this token; set {TOKEN} or "
        f"{TOKEN_PATH} to the token that it was started with"
    )


def _check_token(is_local: bool) -> None:
    """Ray runs whatever it is sent, so nobody joins without a token; on loopback one may opt out.

    Raises:
        ValueError: there is none, or tokens are switched off.
    """
    mode = os.environ.setdefault(AUTH_MODE, "token")
    if mode != "token":
        if is_local:
            return
        raise ValueError(
            f"scorer.pool.address: {AUTH_MODE}={mode} would let anybody run code on the cluster; "
            f"start it with {AUTH_MODE}=token and set the same here"
        )
    path = Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token")
    if not os.environ.get(TOKEN) and not path.is_file():
        raise ValueError(
            f"scorer.pool.address: there is no token for the cluster; set {TOKEN} or {TOKEN_PATH} "
            "to the one that it was started with (`ray get-auth-token --generate` makes one)"
        )


def _check_reachable(host: str, port: int) -> None:
    """Ray itself would try for minutes, and say so at length."""
    try:
        socket.create_connection((host, port), SECONDS_TO_REACH_A_CLUSTER).close()
    except OSError as error:
        raise ConnectionError(
            f"scorer.pool.address: no cluster answers at {host}:{port} ({error}); start one with "
            "`ray start --head`, or correct the address"
        ) from error


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(
            f"scorer.pool.address: {address!r} is not host:port; give the address that `ray start "
            "--head` printed"
        )
    return (LOOPBACK if host == "localhost" else host), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _on_loopback() -> None:
    os.environ.setdefault(OUTER_ADDRESSES, "0")


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself, which a run needs to stop with a checkpoint."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, kept)
