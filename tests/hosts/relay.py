"""A switch between hosts that loses, delays and slows down packets: for kernels without netem.

Each host has a TUN device, whose other end is here: every packet passes through this process.
"""

import fcntl
import heapq
import os
import random
import selectors
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

#: <linux/if_tun.h>
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

#: Bytes of the largest packet.
PACKET_BYTES = 65_536

#: Longest time that a packet waits for a slow link, s: then the queue is full, and it is lost.
QUEUE_S_MAX = 1.0


@dataclass
class Link:
    """What a host's link does to packets. All of it may change at any time."""

    is_cut: bool = False
    #: Shares of the packets that get lost on their way to the host, and from it.
    loss_to: float = 0.0
    loss_from: float = 0.0
    #: Time that each packet takes, in each direction, s.
    delay_s: float = 0.0
    #: Bytes a second in each direction; 0: as fast as it goes.
    rate: int = 0


class Relay:
    """The switch; it runs in a thread of its own until `close`."""

    def __init__(self, seed: int = 1) -> None:
        self.links: dict[str, Link] = {}
        self._chance = random.Random(seed)
        self._hosts: dict[int, str] = {}
        self._devices: dict[str, int] = {}
        self._addresses: dict[bytes, str] = {}
        #: Host and direction → when its link is free again.
        self._free_s: dict[tuple[str, bool], float] = {}
        self._under_way: list[tuple[float, int, str, bytes]] = []
        self._count = 0
        self._ready = selectors.DefaultSelector()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def device(self, name: str, host: str, address: str) -> None:
        """Make a host's device, which is then moved into its namespace."""
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
        self.links[host] = Link()
        self._hosts[device], self._devices[host] = host, device
        self._addresses[IPv4Address(address).packed] = host
        self._ready.register(device, selectors.EVENT_READ)

    def close(self) -> None:
        """Stop, and remove all devices."""
        self._is_over = True
        self._thread.join()
        for device in self._hosts:
            os.close(device)
        self._ready.close()

    def _run(self) -> None:
        while not self._is_over:
            now_s = time.monotonic()
            while self._under_way and self._under_way[0][0] <= now_s:
                *_, host, packet = heapq.heappop(self._under_way)
                with suppress(OSError):  # the host is gone
                    os.write(self._devices[host], packet)
            wait_s = min(0.05, self._under_way[0][0] - now_s) if self._under_way else 0.05
            for key, _ in self._ready.select(max(wait_s, 0.0)):
                with suppress(OSError):
                    self._pass(self._hosts[key.fd], os.read(key.fd, PACKET_BYTES))

    def _pass(self, source: str, packet: bytes) -> None:
        """Send a packet on its way, or lose it."""
        target = self._addresses.get(packet[16:20]) if packet[:1] == b"\x45" else None
        if target is None:
            return
        out, into = self.links[source], self.links[target]
        lost = out.loss_from, into.loss_to
        if out.is_cut or into.is_cut or any(self._chance.random() < share for share in lost):
            return
        due_s = now_s = time.monotonic()
        for link, way in ((out, (source, False)), (into, (target, True))):
            if link.rate:
                due_s = max(due_s, self._free_s.get(way, 0.0)) + len(packet) / link.rate
                if due_s > now_s + QUEUE_S_MAX:
                    return
                self._free_s[way] = due_s
        self._count += 1
        due_s += out.delay_s + into.delay_s
        heapq.heappush(self._under_way, (due_s, self._count, target, packet))
