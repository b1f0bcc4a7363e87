"""The Hugging Face hub without a network."""

from __future__ import annotations

import contextlib
import socket
import sys
import urllib.request
from collections.abc import Iterator


@contextlib.contextmanager
def no_retries_without_network() -> Iterator[None]:
    """Lets the hub's client use its cache at once if the hub's name does not resolve; otherwise it retries for 45 s."""
    import huggingface_hub.constants as hub

    datasets = sys.modules.get("datasets")  # has its own switch
    switches = [hub, *([datasets.config] if datasets else [])]
    host = hub.ENDPOINT.partition("://")[2].partition("/")[0].partition(":")[0]
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        if not urllib.request.getproxies():  # behind a proxy, the proxy resolves names
            socket.getaddrinfo(host, 443)
    except OSError:
        for switch in switches:
            switch.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = was
