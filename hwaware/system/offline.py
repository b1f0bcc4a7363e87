"""The Hugging Face hub where there is no network."""

from __future__ import annotations

import contextlib
import socket
import sys
import urllib.request
from collections.abc import Iterator


@contextlib.contextmanager
def no_retries_without_network() -> Iterator[None]:
    """Let the hub's client use its cache at once where the hub's name does not resolve; it retries 45 s otherwise."""
    import huggingface_hub.constants as hub

    datasets = sys.modules.get("datasets")  # has a switch of its own
    switches = [hub, *([datasets.config] if datasets else [])]
    host = hub.ENDPOINT.partition("://")[2].partition("/")[0].partition(":")[0]
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        if not urllib.request.getproxies():  # behind a proxy it is the proxy that resolves
            socket.getaddrinfo(host, 443)
    except OSError:
        for switch in switches:
            switch.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = was
