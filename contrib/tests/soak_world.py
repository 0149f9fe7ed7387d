"""The network of a soak test (contrib/soak): a server and a client connected by a cable, and the
disturbances of that cable.

The server is the namespace that this runs in; srv0 is its end of the cable.  Every disturbance ends
in the initial state: links up, with their addresses and routes.
"""

import contextlib
import ipaddress
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

SERVER_MAC, CLIENT_MAC = "02:00:00:00:77:01", "02:00:00:00:77:02"
EXTRA_MAC, EXTRA_CLIENT_MAC = "02:00:00:00:78:01", "02:00:00:00:78:02"
MACS = {"cli0": (SERVER_MAC, CLIENT_MAC), "extc": (EXTRA_MAC, EXTRA_CLIENT_MAC)}


def run(words, check=True):
    """Runs a program; prints its errors."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        print(f"soak: {' '.join(words)}: {done.stderr.strip()}", file=sys.stderr, flush=True)
    return done


def ip(words, check=True):
    return run(["ip", *words.split()], check)


class World:
    def __init__(self):
        ip("link set lo up")
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL)
        ours = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.holder.pid}/ns/net") == ours:
            time.sleep(0.01)
        self.enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        self.second = "10.77.1.1"
        self.is_extra = False
        self.lock = threading.Lock()
        self.connect()
        words = [*self.enter, sys.executable, "-u", os.path.abspath(__file__)]
        self.sender = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)

    def on_client(self, words):
        return run([*self.enter, *words], check=False)

    def send(self, request):
        """Has the process on the client's side send packets."""
        with self.lock:
            self.sender.stdin.write(json.dumps(request) + "\n")
            self.sender.stdin.flush()

    def address(self, target, source):
        """The address to knock at."""
        if target == "second":
            return self.second
        if target == "extra":
            return "10.78.0.1"
        return "fd77::1" if ":" in source else "10.77.0.1"

    # ------------------------------------------------------------ the cable
    def connect(self):
        ip(
            f"link add srv0 address {SERVER_MAC} type veth"
            f" peer name cli0 address {CLIENT_MAC} netns {self.holder.pid}"
        )
        self.restore()

    def restore(self):
        """Brings both ends up, with the addresses and routes that they lose when they go down."""
        ip("link set srv0 up")
        for address in ("10.77.0.1/16", f"{self.second}/16", "fd77::1/64"):
            self.add(address)
        ip("route replace default via 10.77.0.2 dev srv0")
        self.on_client(["ip", "link", "set", "cli0", "up"])
        self.on_client(["ip", "address", "replace", "10.77.0.2/16", "dev", "cli0"])
        self.on_client(["ip", "address", "replace", "fd77::2/64", "dev", "cli0", "nodad"])
        for address in ("10.77.0.1", "fd77::1", self.second):
            self.introduce(address)

    def add(self, address):
        ip(f"address replace {address} dev srv0" + (" nodad" if ":" in address else ""))

    def introduce(self, address):
        """Gives the client a permanent neighbour entry."""
        words = f"ip neighbour replace {address} lladdr {SERVER_MAC} nud permanent dev cli0"
        self.on_client(words.split())

    @contextlib.contextmanager
    def client_address(self, source):
        """Makes this the source of the client's packets to the server, for the block."""
        self.on_client(f"ip address add {source}/32 dev cli0".split())
        for address in ("10.77.0.1", self.second):
            self.on_client(f"ip route replace {address}/32 dev cli0 src {source}".split())
        yield
        self.on_client(f"ip address del {source}/32 dev cli0".split())

    # ----------------------------------- each restores the initial state
    def down(self, seconds, meanwhile=lambda: None):
        ip("link set srv0 down")
        meanwhile()
        time.sleep(seconds)
        self.restore()

    def carrier(self, seconds):
        self.on_client(["ip", "link", "set", "cli0", "down"])
        time.sleep(seconds)
        self.restore()

    def delete(self, seconds, meanwhile=lambda: None):
        ip("link delete srv0")
        meanwhile()
        time.sleep(seconds)
        self.connect()

    def rename(self, seconds):
        ip("link set srv0 down")
        ip("link set srv0 name other0")
        ip("link set other0 up")
        time.sleep(seconds)
        ip("link set other0 down")
        ip("link set other0 name srv0")
        self.restore()

    def readdress(self, seconds):
        """Removes all addresses of the cable, and adds them again."""
        ip("address flush dev srv0 scope global")
        time.sleep(seconds)
        self.restore()

    # ------------------------------------------------- these do not restore it
    def replace_second(self, address):
        if address != self.second:
            ip(f"address delete {self.second}/16 dev srv0")
            self.second = address
            self.add(f"{address}/16")
            self.introduce(address)

    def extra(self, is_wanted):
        """Adds or removes a second cable between the two."""
        if is_wanted and not self.is_extra:
            ip(
                f"link add ext0 address {EXTRA_MAC} type veth"
                f" peer name extc address {EXTRA_CLIENT_MAC} netns {self.holder.pid}"
            )
            self.on_client(["ip", "link", "set", "extc", "up"])
            ip("link set ext0 up")
            ip("address add 10.78.0.1/16 dev ext0")
        elif self.is_extra and not is_wanted:
            ip("link delete ext0")
        self.is_extra = is_wanted

    def bridge(self):
        """Adds and removes an unrelated interface."""
        ip("link add br7 type bridge")
        ip("link set br7 up")
        ip("address add 10.80.0.1/24 dev br7")
        ip("link delete br7")


# ------------------------------------------------------------------ the process that sends packets
def checksum(data):
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def frame(macs, source, destination, protocol, port, source_port):
    """An Ethernet frame with a SYN, or with a datagram of one byte."""
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    if protocol == "tcp":
        number, length = 6, 20
        segment = struct.pack("!HHIIBBHHH", source_port, port, port, 0, 0x50, 2, 64240, 0, 0)
        place = 16
    else:
        number, length = 17, 9
        segment = struct.pack("!HHHH", source_port, port, length, 0) + b"\0"
        place = 6
    pseudo = source.packed + destination.packed + struct.pack("!IxxxB", length, number)
    total = checksum(pseudo + segment) or 0xFFFF
    segment = segment[:place] + struct.pack("!H", total) + segment[place + 2 :]
    if source.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, number, 0)
        head += source.packed + destination.packed
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        kind = b"\x08\x00"
    else:
        head = struct.pack("!IHBB", 6 << 28, length, number, 64) + source.packed + destination.packed
        kind = b"\x86\xdd"
    server, client = (bytes.fromhex(mac.replace(":", "")) for mac in macs)
    return server + client + kind + head + segment


@contextlib.contextmanager
def opened(interface):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:
        link.bind((interface, 0))
        yield link


def send_knock(request):
    interface = request["interface"]
    with opened(interface) as link:
        for number, (port, protocol) in enumerate(request["knock"]):
            if number:
                time.sleep(request["delay"])
            link.send(frame(MACS[interface], request["source"], request["destination"], protocol, port, 40000))


def send_flood(request):
    """Sends first knocks of strangers, at most at the given rate."""
    draw = random.Random(request["flood"])
    began, sent = time.monotonic(), 0
    with opened("cli0") as link:
        while (passed := time.monotonic() - began) < request["seconds"]:
            if sent >= passed * request["rate"]:
                time.sleep(0.002)
                continue
            port, protocol = draw.choice([(2001, "tcp"), (3001, "udp"), (4001, "tcp"), (5001, "tcp")])
            source = f"11.{draw.randrange(256)}.{draw.randrange(256)}.{draw.randrange(256)}"
            link.send(frame(MACS["cli0"], source, request["destination"], protocol, port, 1024 + sent % 60000))
            sent += 1


def serve():
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def take(request):
        # The cable may be gone; ignore that.
        with contextlib.suppress(OSError):
            (send_knock if "knock" in request else send_flood)(request)

    for line in sys.stdin:
        threading.Thread(target=take, args=(json.loads(line),), daemon=True).start()


if __name__ == "__main__":
    serve()
