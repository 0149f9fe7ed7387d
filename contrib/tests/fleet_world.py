"""The network of the fleet's tests: three gateways with one address in common (a VIP), a router that spreads
connections over them (ECMP), a client behind it, and an engine on a network of its own.

    client 10.90.0.2 -- 10.90.0.1 router --+-- g1 10.90.1.2
                                           +-- g2 10.90.2.2   each with 10.99.0.1 on lo
                                           +-- g3 10.90.3.2
    engine 10.91.0.9 --- g1 10.91.0.1, g2 10.91.0.2, g3 10.91.0.3

Runs as root, or as root of a user namespace, in namespaces that the caller made.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import threading
import time

VIP = "10.99.0.1"
CLIENT = "10.90.0.2"
ENGINE = "10.91.0.9"
PORT = 6379
PASSWORD = "password-of-the-tests"
ACL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fleet", "redis.acl")
# How long to wait for an event on a busy machine.
LIMIT = 60

libc = ctypes.CDLL(None, use_errno=True)


def within(condition, limit=LIMIT, pause=0.01):
    """Waits until the condition holds; returns what it returned last."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(pause)


def run(*words, check=True, **options):
    done = subprocess.run(
        [str(word) for word in words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{words}: {done.returncode}: {done.stdout}{done.stderr}")
    return done


class Namespace:
    """A network namespace, kept by a file that it is mounted on."""

    def __init__(self, folder, name):
        self.name, self.path = name, os.path.join(folder, f"net-{name}")
        with open(self.path, "w", encoding="ascii"):
            pass
        run("unshare", f"--net={self.path}", "true")
        self.ip("link set lo up")

    def words(self, *words):
        return ["nsenter", f"--net={self.path}", *[str(word) for word in words]]

    def run(self, *words, check=True):
        return run(*self.words(*words), check=check)

    def ip(self, words):
        self.run("ip", *words.split())

    def start(self, words, **options):
        return subprocess.Popen(self.words(*words), stdin=subprocess.DEVNULL, **options)

    @contextlib.contextmanager
    def inside(self):
        """What this thread opens inside stays there."""
        with open("/proc/thread-self/ns/net", "rb") as home, open(self.path, "rb") as there:
            enter(there)
            try:
                yield
            finally:
                enter(home)

    def sysctl(self, name, value):
        with self.inside():
            try:
                with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
                    file.write(str(value))
            except FileNotFoundError:
                return False
        return True


def enter(namespace):
    if libc.setns(namespace.fileno(), 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def cable(one, name, address, other, its_name, its_address):
    one.run("ip", "link", "add", name, "type", "veth", "peer", "name", its_name, "netns", other.path)
    for namespace, link, ip in ((one, name, address), (other, its_name, its_address)):
        if ip:
            namespace.ip(f"address add {ip} dev {link}")
        namespace.ip(f"link set {link} up")


class Service:
    """A port of a gateway that says who it is, as SSH would."""

    def __init__(self, namespace, port):
        with namespace.inside():
            self.listener = socket.create_server(("0.0.0.0", port), backlog=256)
        self.name = namespace.name.encode()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                stream.sendall(self.name + b"\n")
                stream.close()


class World:
    """The network; nothing runs in it yet."""

    def __init__(self, folder, count=3):
        self.folder = folder
        self.processes = []
        self.router = Namespace(folder, "router")
        self.client = Namespace(folder, "client")
        self.engine_place = Namespace(folder, "engine")
        self.places = [Namespace(folder, f"g{number}") for number in range(1, count + 1)]
        cable(self.client, "eth0", f"{CLIENT}/24", self.router, "client", "10.90.0.1/24")
        self.client.ip("route add default via 10.90.0.1")
        self.router.sysctl("ipv4/ip_forward", 1)
        self.engine_place.ip("link add br0 type bridge")
        self.engine_place.ip(f"address add {ENGINE}/24 dev br0")
        self.engine_place.ip("link set br0 up")
        for number, place in enumerate(self.places, 1):
            cable(place, "wan", f"10.90.{number}.2/24", self.router, place.name, f"10.90.{number}.1/24")
            place.ip(f"route add default via 10.90.{number}.1")
            place.ip(f"address add {VIP}/32 dev lo")
            for what in ("all", "default", "wan"):
                place.sysctl(f"ipv4/conf/{what}/rp_filter", 0)
            cable(place, "mgmt", f"10.91.0.{number}/24", self.engine_place, place.name, "")
            self.engine_place.ip(f"link set {place.name} master br0")
        hops = " ".join(f"nexthop via 10.90.{number}.2" for number in range(1, count + 1))
        self.router.ip(f"route add {VIP} {hops}")
        self.spread(ports=True)

    def spread(self, ports):
        """Whether the router's hash has the ports in it, or the addresses alone."""
        return self.router.sysctl("ipv4/fib_multipath_hash_policy", 1 if ports else 0)

    def connect(self, port, limit=0.25, to=VIP):
        """Who answers a connection of the client; none within the limit."""
        with self.client.inside():
            stream = socket.socket()
        with stream:
            stream.settimeout(limit)
            try:
                stream.connect((to, port))
                return stream.recv(64).decode().strip()
            except OSError:
                return None

    def connect_often(self, port, count=24, limit=0.25):
        """Who answers to connections that begin at once, each from a port of its own."""
        answers = [None] * count

        def one(index):
            answers[index] = self.connect(port, limit)

        threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def spawn(self, namespace, words, said, **options):
        with open(said, "ab") as output:
            process = namespace.start(words, stdout=output, stderr=output, **options)
        self.processes.append(process)
        return process

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                # Stopped ones do not hear SIGTERM.
                process.kill()
        for process in self.processes:
            process.wait()


class Engine:
    """redis-server, or whatever speaks its language."""

    def __init__(self, world, program="redis-server"):
        self.world, self.program = world, program
        self.folder = os.path.join(world.folder, "engine")
        os.makedirs(self.folder, exist_ok=True)
        self.process = None

    def start(self, keeps=True):
        # The user of the example may do no more than the program needs; the test itself asks as the default user.
        with open(ACL, encoding="ascii") as file:
            users = [line for line in file if line.startswith("user ")]
        with open(os.path.join(self.folder, "users.acl"), "w", encoding="ascii") as file:
            file.write("user default on nopass ~* &* +@all\n" + "".join(users).replace("PASSWORD", PASSWORD))
        words = [self.program, "--aclfile", os.path.join(self.folder, "users.acl"), "--bind", ENGINE, "127.0.0.1", "--port", PORT, "--dir", self.folder, "--save", "",
                 "--protected-mode", "no", "--appendonly", "yes" if keeps else "no"]
        self.process = self.world.spawn(self.world.engine_place, words, os.path.join(self.folder, "said"))
        if not within(lambda: self.ask("PING") == "+PONG"):
            with open(os.path.join(self.folder, "said"), encoding="utf-8", errors="replace") as said:
                raise RuntimeError(f"the engine does not answer: {said.read()[-2000:]}")

    def signal(self, number):
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    def ask(self, *words):
        """The first line of the answer to a command; none if there is no answer."""
        data = b"*%d\r\n" % len(words)
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            data += b"$%d\r\n%s\r\n" % (len(word), word)
        with self.world.engine_place.inside():
            stream = socket.socket()
        with stream:
            stream.settimeout(5)
            try:
                stream.connect(("127.0.0.1", PORT))
                stream.sendall(data)
                return stream.makefile("rb").readline().decode().strip()
            except OSError:
                return None

    def count(self, stream="log"):
        return int((self.ask("XLEN", f"knockd:home:{stream}") or ":0")[1:])


class Gateway:
    """knockd and knockd-fleet of one gateway."""

    def __init__(self, world, number, programs, doors, options=""):
        self.world, self.number, self.programs = world, number, programs
        self.place = world.places[number - 1]
        self.name = self.place.name
        self.folder = os.path.join(world.folder, self.name)
        os.makedirs(self.folder, exist_ok=True)
        self.doors, self.options = doors, options
        self.daemon = self.fleet = None
        # What both programs find in their environment, beside that of the test.
        self.environment = {}
        self.write("key", "0123456789abcdef0123456789abcdef-of-the-tests\n", 0o600)
        self.write("password", PASSWORD + "\n", 0o600)
        self.write("fleet.conf", f"""Engine = redis://knockd@{ENGINE}:{PORT}
Password_File = {self.path('password')}
Fleet = home
Member = {self.name}
Key_File = {self.path('key')}
Socket = {self.path('fleet')}
Status_Socket = {self.path('status')}
Place_File = {self.path('place')}
""")

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as file:
            os.chmod(self.path(name), mode)
            file.write(text)

    def read(self, name):
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def log(self):
        return self.read("knockd.log")

    def start_daemon(self, is_fleeted=True):
        fleet = f"Fleet_Socket = {self.path('fleet')}" if is_fleeted else ""
        self.write("knockd.conf", f"""[options]
LogFile = {self.path('knockd.log')}
StateFile = {self.path('state')}
Interface = wan,lo
Guard = yes
{fleet}
{self.options}
{self.doors.replace('@', self.folder)}
""")
        before = self.log().count("listening on")
        self.daemon = self.world.spawn(
            self.place,
            [self.programs["knockd"], "-c", self.path("knockd.conf"), "-p", self.path("pid")],
            self.path("daemon.said"),
            env=os.environ | self.environment,
        )
        if not within(lambda: self.log().count("listening on") > before):
            raise RuntimeError(f"{self.name}: {self.log()} {self.read('daemon.said')}")

    def start_fleet(self):
        self.fleet = self.world.spawn(
            self.place,
            [self.programs["knockd-fleet"], "-c", self.path("fleet.conf")],
            self.path("fleet.said"),
            env=os.environ | self.environment,
        )

    def start(self):
        self.start_daemon()
        self.start_fleet()
        self.wait_until_fleeted()

    def wait_until_fleeted(self):
        is_up = lambda: (self.status().get("engine_in_reach"), self.status().get("knockd")) == (True, True)
        if not within(is_up):
            raise RuntimeError(f"{self.name}: {self.read('fleet.said')} {self.log()}")

    def status(self):
        done = run(self.programs["knockd-fleet"], "-c", self.path("fleet.conf"), "--status", "--json", check=False)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {}

    def wait_for(self, text, count=1):
        if not within(lambda: self.log().count(text) >= count):
            raise AssertionError(f"{self.name}: no {text!r} ({count} times)\n{self.log()}\n{self.read('fleet.said')}")

    def end(self, *processes):
        for process in processes or (self.fleet, self.daemon):
            if process and process.poll() is None:
                process.kill()
                process.wait()
