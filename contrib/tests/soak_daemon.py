"""The daemon of a soak test (contrib/soak): restarted whenever it was killed, observed and measured."""

import os
import signal
import subprocess
import threading


class Tail:
    """Reads the new lines of a growing file."""

    def __init__(self, path):
        self.path, self.place, self.rest = path, 0, ""

    def lines(self):
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                file.seek(self.place)
                text = self.rest + file.read()
                self.place = file.tell()
        except FileNotFoundError:
            return []
        *whole, self.rest = text.split("\n")
        return whole


class Daemon:
    """knockd, restarted whenever it was killed."""

    def __init__(self, program, folder, failures, name="knockd"):
        self.program, self.folder, self.failures, self.name = program, folder, failures, name
        self.process = None
        self.number = 0
        self.may_start = True
        self.expects_end = False
        self.restarts = 0
        # Its state according to its own output.
        self.listens = self.extra_listens = False
        self.reloads = 0
        self.replaced = 0
        self.peak = {"watcher": 0, "doorkeeper": 0}
        self.tail = None
        self.lock = threading.RLock()

    def said(self):
        return self.path(f"{self.name}.said.{self.number}")

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self):
        self.number += 1
        said = self.said()
        self.listens = self.extra_listens = False
        self.expects_end = False
        self.tail = Tail(said)
        words = [self.program, "-v", "-c", self.path(f"{self.name}.conf"), "-p", self.path(f"{self.name}.pid")]
        with open(said, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder
            )

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def claims_to_listen(self):
        """Whether it says so, and its watcher, which may have been replaced without a word, has a bound socket."""
        return self.alive() and self.listens and self.has_bound_socket()

    def has_bound_socket(self):
        with open("/proc/net/packet", encoding="utf-8") as file:
            rows = [line.split() for line in file][1:]
        bound = {f"socket:[{row[8]}]" for row in rows if int(row[3], 16) != 0}
        for pid in self.watchers():
            try:
                files = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
            except OSError:
                continue
            if not bound.isdisjoint(files):
                return True
        return False

    def look(self):
        """Reads its output, restarts it if it has exited, and measures it; called often."""
        with self.lock:
            for line in self.tail.lines() if self.tail else []:
                self.hear(line)
            if self.alive():
                self.measure()
            elif self.may_start:
                if self.process is not None:
                    code = self.process.returncode
                    if not self.expects_end:
                        self.failures.append(f"the daemon exited by itself, code {code}: {self.last_words()}")
                    self.restarts += 1
                self.start()

    def hear(self, line):
        main = ("srv0", "any", "auto")
        if line.startswith("listening on "):
            names = line.removeprefix("listening on ").rstrip(".").split(", ")
            self.listens |= any(name in main for name in names)
            self.extra_listens |= "ext0" in names
        elif line.startswith("there is no default route") or line.startswith("srv0 ") and "waiting" in line:
            self.listens = False
        elif line.startswith("ext0 ") and "waiting" in line:
            self.extra_listens = False
        elif line.startswith("re-opening log file") or line.startswith("keeping the configuration"):
            self.reloads += 1
        elif line.startswith("the watcher ended unexpectedly: starting"):
            self.replaced += 1

    def last_words(self):
        with open(self.said(), encoding="utf-8", errors="replace") as file:
            return " | ".join(file.read().splitlines()[-6:])

    def watchers(self):
        """The PIDs of all watchers, also of a daemon that was killed just now."""
        return [pid for pid in self.pids() if self.arguments_of(pid).startswith(b"knockd: watcher\0")]

    def leftovers(self):
        """The PIDs of all processes of any knockd."""
        names = (b"knockd: ", os.fsencode(self.program) + b"\0")
        return [pid for pid in self.pids() if self.arguments_of(pid).startswith(names)]

    @staticmethod
    def pids():
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]

    @staticmethod
    def arguments_of(pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return file.read()
        except OSError:
            return b""

    def children(self):
        """The PIDs of all descendants: the watcher, and the commands with what they run."""
        parents = {}
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    parents.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(pid)
            except OSError:
                pass
        found = []
        for pid in [self.process.pid, *found]:
            found += parents.get(pid, [])
        for pid in found:
            found += parents.get(pid, [])
        return found

    def measure(self):
        def peak(pid):
            try:
                with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                    return int(next(line for line in file if line.startswith("VmHWM:")).split()[1])
            except (OSError, StopIteration):
                return 0

        self.peak["doorkeeper"] = max(self.peak["doorkeeper"], peak(self.process.pid))
        self.peak["watcher"] = max([self.peak["watcher"], *map(peak, self.watchers())])

    def ticks(self):
        def of(pid):
            with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))

        return sum(map(of, [self.process.pid, *self.watchers()]))

    def kill(self, who):
        """Kills the watcher, the main process, or all with the commands that run."""
        with self.lock:
            if not self.alive():
                return
            if who == "watcher":
                pids = self.watchers()
            else:
                self.expects_end = True
                self.listens = False
                pids = [self.process.pid, *(self.children() if who == "all" else [])]
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if who != "watcher":
                self.process.wait()

    def stop(self):
        """In good order; the exit code."""
        with self.lock:
            self.may_start = False
            self.expects_end = True
            if not self.alive():
                return 0
            self.process.send_signal(signal.SIGTERM)
            process = self.process
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            return "none in 20 seconds"

    def hang_up(self):
        with self.lock:
            if self.alive():
                self.process.send_signal(signal.SIGHUP)
