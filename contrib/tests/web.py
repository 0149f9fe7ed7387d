#!/usr/bin/env python3
"""Drives a browser through contrib/web/knock.html, at the daemon of web.sh.

    web.py chromium|firefox LOG LINK

LINK is the page's address with a door that knockd made up.

Runs in the network namespace of the client, and needs nothing but Python: Chromium is driven through
ChromeDriver (WebDriver over HTTP), Firefox through its own Marionette. Prints a result a line. With
SCREENSHOTS=FOLDER it leaves pictures of the page there.
"""

import base64
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = (HERE.parent / "web" / "knock.html").as_uri()
VECTORS = HERE.parent.parent / "otp" / "vectors.txt"
SERVER, CLIENT = "10.83.0.1", "10.83.0.2"


def connect(port, patience=60):
    end = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


class Chromium:
    PORT = 9515
    # Ports of the Fetch standard's list that it connects to all the same.
    ALLOWED = (4190, 6679)

    def __init__(self, home):
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.PORT}"], stdout=sys.stderr,
                                       env={**os.environ, "HOME": home})
        connect(self.PORT).close()
        self.session = ""
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     f"--user-data-dir={home}/profile"]
        options = {"binary": "/usr/bin/chromium", "args": arguments}
        started = self.call("POST", "/session",
                            {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
        self.session = "/session/" + started["sessionId"]

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.PORT, timeout=90)
        connection.request(method, self.session + path, None if body is None else json.dumps(body))
        value = json.load(connection.getresponse())["value"]
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(value["message"])
        return value

    def go(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def title(self):
        return self.call("GET", "/title")

    def resize(self, width, height):
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}})

    def dark(self, is_dark):
        feature = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [feature]}})

    def picture(self):
        return base64.b64decode(self.call("GET", "/screenshot"))

    def quit(self):
        self.call("DELETE", "")
        self.driver.terminate()
        self.driver.wait()


class Firefox:
    PORT = 2828
    ALLOWED = ()

    def __init__(self, home):
        Path(home, "profile").mkdir()
        Path(home, "profile", "user.js").write_text(f'user_pref("marionette.port", {self.PORT});\n')
        self.browser = subprocess.Popen(
            ["firefox-esr", "--headless", "--marionette", "--remote-allow-system-access", "--no-remote",
             "--profile", f"{home}/profile"],
            stdout=sys.stderr, env={**os.environ, "HOME": home})
        self.socket = connect(self.PORT)
        self.input = self.socket.makefile("rb")
        self.number = 0
        self.message()
        self.call("WebDriver:NewSession", {})

    def message(self):
        """Marionette writes the length of a message in decimal, a colon, and JSON."""
        length = b""
        while (byte := self.input.read(1)) != b":":
            if not byte:
                raise RuntimeError("Firefox closed the connection")
            length += byte
        return json.loads(self.input.read(int(length)))

    def call(self, name, parameters):
        self.number += 1
        text = json.dumps([0, self.number, name, parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(text), text))
        _, _, error, value = self.message()
        if error:
            raise RuntimeError(error["message"])
        return value

    def go(self, url):
        self.call("WebDriver:Navigate", {"url": url})

    def run(self, script, *arguments):
        return self.call("WebDriver:ExecuteAsyncScript", {"script": script, "args": list(arguments)})["value"]

    def title(self):
        return self.call("WebDriver:GetTitle", {})["value"]

    def resize(self, width, height):
        self.call("WebDriver:SetWindowRect", {"width": width, "height": height})

    def dark(self, is_dark):
        self.call("Marionette:SetContext", {"value": "chrome"})
        self.run("Services.prefs.setIntPref('layout.css.prefers-color-scheme.content-override', arguments[0]);"
                 "arguments[arguments.length - 1]()", 0 if is_dark else 1)
        self.call("Marionette:SetContext", {"value": "content"})

    def picture(self):
        return base64.b64decode(self.call("WebDriver:TakeScreenshot", {"full": False})["value"])

    def quit(self):
        self.call("Marionette:Quit", {"flags": ["eForceQuit"]})
        self.browser.wait()


def result(what, is_right, seen=""):
    print("pass" if is_right else "fail", what, str(seen).replace("\n", " "), sep="\t", flush=True)


class Log:
    """The lines that the daemon has written since the last `mark`."""

    def __init__(self, path):
        self.path, self.at = path, 0

    def mark(self):
        self.at = os.path.getsize(self.path)

    def lines(self):
        with open(self.path, encoding="utf-8") as log:
            log.seek(self.at)
            return log.read()

    def openings(self, door):
        return self.lines().count(f"{CLIENT}: {door}: OPEN SESAME")

    def read_all(self):
        """Waits until the daemon has read what was sent so far: one knock more is read after it."""
        marks = self.openings("mark")
        subprocess.run([os.environ["KNOCK"], SERVER, "9009:udp"], check=True)
        while self.openings("mark") == marks:
            time.sleep(0.05)

    def opened(self, door):
        self.read_all()
        return self.openings(door) > 0


def at_server(*command):
    """In the server's network, which is that of the first process here."""
    return subprocess.run(["nsenter", "--target", "1", "--net", *command], check=True, capture_output=True,
                          text=True).stdout


# Constants of the page are not seen by the scripts of a driver; its functions are.
DONE = """
const done = arguments[arguments.length - 1], by = id => document.getElementById(id);
const stored = () => JSON.parse(localStorage.getItem('knock.doors') || '[]');
"""
# Types a profile into the form, as a user would, and saves it.
SAVE = DONE + """
by('add').click(); by('paste').value = arguments[0]; by('take').click();
for (const [id, value] of Object.entries(arguments[1])) by(id).value = value;
by('form').requestSubmit();
done([by('problem').textContent, by('status').textContent, stored().length]);
"""
# Clicks the first button of this name; true if there is one.
CLICK = DONE + """
const button = [...document.querySelectorAll('button')].find(it => it.textContent === arguments[0]);
if (button) button.click();
done(Boolean(button));
"""
STATUS = DONE + "done(document.getElementById('status')?.textContent ?? '')"


ON = "[on]\nhost = 10.83.0.1\notp_digest = sha256\notp = qK2vYw9sT5uRb8XeMc4D, 60, 50000, on, tcp, tcp\nsource_ip = "


class Visit:
    """The page, loaded anew, without doors."""

    def __init__(self, browser, log):
        self.browser, self.log = browser, log
        self.fresh()

    def fresh(self):
        """Opens the page with no doors stored."""
        self.browser.go(PAGE)
        # Chromium applies what a page stores later, maybe after what the next page stores. A mark that the
        # next page sees shows that the doors before it are gone.
        mark = f"cleared at {time.monotonic()}"
        self.browser.run(DONE + "localStorage.clear(); localStorage.setItem('mark', arguments[0]); done()", mark)
        self.browser.go("about:blank")
        self.browser.go(PAGE)
        self.browser.run(DONE + """
        const end = Date.now() + 10000;
        const look = () => localStorage.getItem('mark') === arguments[0] || Date.now() > end ? done() : setTimeout(look, 50);
        look();
        """, mark)
        self.browser.go("about:blank")
        self.browser.go(PAGE)

    def save(self, profile, fields=None):
        return self.browser.run(SAVE, profile, fields or {})

    def click(self, label):
        return self.browser.run(CLICK, label)

    def status(self):
        return self.browser.run(STATUS)

    def status_soon(self, pattern, patience=15):
        end = time.monotonic() + patience
        while not re.search(pattern, self.status()) and time.monotonic() < end:
            time.sleep(0.1)
        return self.status()

    def knock(self, profile, door):
        """Saves a door and knocks it: whether the daemon opened it, and what the page said."""
        self.fresh()
        problem, _, _ = self.save(profile)
        self.log.mark()
        self.click("Knock")
        said = self.status_soon("Knocked|report|agree|tell|Going", 60)
        return not problem and self.log.opened(door), problem or said

    def knock_until_open(self, profile, door):
        """The same, three times at most: on a machine with much else to do, the browser may end an attempt to
        connect before it has sent anything."""
        for _ in range(3):
            is_open, said = self.knock(profile, door)
            if is_open:
                break
        return is_open, said


def vectors(visit):
    """The lists that openssl made, by the page's own code."""
    lines = [line.decode() for line in VECTORS.read_bytes().splitlines() if is_text(line)]
    wrong = visit.browser.run(DONE + """
    (async () => {
      const wrong = [];
      for (const line of arguments[0]) {
        const [digest, unix, address, words, ports] = line.split('\\t');
        const otp = readOtp(words, digest);
        const list = await otpPorts(otp, Math.floor(Number(unix) / otp.changeTime), canonicalAddress(address));
        if (list.join(' ') !== ports) wrong.push(`${line}: ${list.join(' ')}`);
      }
      done(wrong);
    })().catch(error => done([String(error)]));
    """, lines)
    result(f"{len(lines)} lists of one-time ports are those of openssl", not wrong and len(lines) > 90, wrong[:2])


def is_text(line):
    try:
        return bool(line.decode())
    except UnicodeDecodeError:
        return False


def refusals(visit):
    sequence = "[x]\nhost = 10.83.0.1\nsequence = "
    otp = "[x]\nhost = 10.83.0.1\notp = seed,60,"
    for words, sentence in {
        sequence + "7000, 6667": "Browsers refuse to connect to port 6667",
        sequence + "7000, 8000:udp": "plain TCP connections only",
        sequence + "1000:icmp": "plain TCP connections only",
        sequence + "7000, 70000": "“70000” is no port",
        sequence: "no port to knock at",
        otp + "20000,off,tcp,udp": "all protocols must be tcp",
        otp + "5900,off,tcp": "can contain port 6000",
        otp + "20000,on,tcp": "write the address",
        otp + "20000,maybe,tcp": "on or off",
        "[x]\nhost = 10.83.0.1/a\nsequence = 7000": "is no host",
        "[x]\nsequence = 7000\nhost = 10.83.0.1\nweb = javascript:alert(1)": "must begin with https",
    }.items():
        visit.fresh()
        problem, _, stored = visit.save(words)
        result(f"refused with a sentence: {sentence}", sentence in problem and stored == 0, problem)

    source = re.search(r"BLOCKED = new Set\(\[([^]]*)\]\)", Path(HERE.parent, "web", "knock.html").read_text(encoding="utf-8"))
    blocked = [int(port) for port in source[1].split(",") if int(port) not in visit.browser.ALLOWED]
    ports = ", ".join(str(port) for port in blocked if port)
    at_server("nft", "add", "element", "inet", "filter", "blocked", "{", ports, "}")
    passed = visit.browser.run(DONE + f"""
    Promise.all(arguments[0].map(port => Promise.race([
      fetch(`https://{SERVER}:${{port}}/`, {{ mode: 'no-cors' }}).then(() => port, () => null),
      new Promise(late => setTimeout(late, 1000, port))])))
      .then(all => done(all.filter(port => port !== null)));
    """, blocked)
    arrived = re.search(r"packets (\d+)", at_server("nft", "list", "counter", "inet", "filter", "refused"))[1]
    result("the browser itself refuses all ports of the list", (passed, arrived) == ([], "0"), f"tried {passed}, {arrived} packets")
    at_server("nft", "flush", "set", "inet", "filter", "blocked")


def fixed(visit):
    profile = "[home]\nhost = 10.83.0.1\nsequence = 28101, 20411:tcp, 31007\nweb = http://10.83.0.1:8090/"
    is_open, said = visit.knock_until_open(profile, "fixed")
    result("a fixed sequence opens", is_open, said)
    end = time.monotonic() + 15
    while "behind the door" != (title := visit.browser.title()) and time.monotonic() < end:
        time.sleep(0.1)
    result("the page waits for the web address and goes there", title == "behind the door", title)
    # A kernel that repeats its SYNs would have done so by now.
    time.sleep(2.5)
    result("one visit opens once", visit.log.openings("fixed") == 1, visit.log.lines())

    at_server("nft", "flush", "set", "inet", "filter", "friends")
    is_open, said = visit.knock(profile.replace("20411", "20511"), "fixed")
    said = visit.status_soon("did not answer|Going", 25)
    result("a wrong sequence does not, and the page says what to look at",
           not is_open and "did not answer within 15 seconds. Are the ports right" in said, said)


def long(visit):
    ports = "28201,20412,31008,22001,29010,23456,21212,30303,20001,27272,24024,29999"
    is_open, said = visit.knock_until_open(f"[long]\nhost = 10.83.0.1\nsequence = {ports}", "long")
    result("a sequence of twelve ports opens", is_open, said + visit.log.lines())


def one_time(visit):
    """Lists without protection of the address."""
    off = "[off]\nhost = 10.83.0.1\notp = 8xpBQxw0rN1mZ3vKf7Ls, 60, 40000, off, tcp, tcp, tcp, tcp"
    is_open, said = visit.knock(off.replace("8xp", "8xq"), "off")
    result("a wrong seed does not open", not is_open and "Knocked at 4 ports" in said, said)
    is_open, said = visit.knock_until_open(off, "off")
    result("a one-time password opens", is_open, said + visit.log.lines())



def protected(visit):
    """Lists that are bound to an address."""
    is_open, said = visit.knock(ON + "10.83.0.9", "on")
    result("with `on`, the list of another address does not open", not is_open, said)
    is_open, said = visit.knock_until_open(ON + f"stun:{SERVER}:3478 stun:{SERVER}:3479", "on")
    result("with `on`, the address that two STUN servers tell opens", is_open, said + visit.log.lines())



def unconfirmed(visit):
    """A single STUN server, which could be lying."""
    visit.fresh()
    visit.save(ON + f"stun:{SERVER}:3478")
    visit.click("Knock")
    said = visit.status_soon("One STUN")
    result("one STUN server alone is not believed",
           f"the server sees {CLIENT}. Nothing was sent" in said and visit.click("That is my address: knock"), said)
    said = visit.status_soon("Knocked")
    result("until the user says that it is right", f"Knocked at 4 ports of {SERVER}" in said, said)


def links_and_storage(visit):
    visit.fresh()
    visit.browser.go("about:blank")
    visit.browser.go(PAGE + f"#name=linked&host={SERVER}&sequence=28101,20411,31007")
    address = visit.browser.run(DONE + "done([location.hash, stored().length])")
    visit.log.mark()
    result("a link brings a door, and its fragment leaves the address bar",
           "The link has a door: linked" in visit.status() and address == ["", 0], address)
    result("nothing is knocked before the user says so", not visit.log.lines(), visit.log.lines())
    visit.click("Knock")
    said = visit.status_soon("Knocked")
    result("it knocks when told to", visit.log.opened("fixed"), said)
    visit.fresh()
    visit.save("[kept]\nhost = 10.83.0.1\nsequence = 7000")
    visit.browser.go("about:blank")
    visit.browser.go(PAGE)
    # Chromium writes what is stored behind the page's back.
    kept = visit.browser.run(DONE + """
    const end = Date.now() + 10000;
    const look = () => stored().length || Date.now() > end ? done(stored().map(door => door.name)) : setTimeout(look, 50);
    look();
    """)
    result("a door is still there when the page is opened again", kept == ["kept"], kept)


def made(visit):
    """The door that `knockd --new-door --web` made up."""
    for _ in range(3):  # as in knock_until_open
        visit.fresh()
        visit.browser.go("about:blank")
        visit.browser.go(PAGE.removesuffix("knock.html") + sys.argv[3])
        visit.log.mark()
        visit.click("Knock")
        said = visit.status_soon("Knocked")
        is_open = visit.log.opened("made")
        if is_open:
            break
    result("a door that knockd made up opens by its link", is_open, said + visit.log.lines())


def manners(visit):
    visit.browser.resize(900, 900)
    visit.fresh()
    visit.save("[home]\nhost = home.example.org\nsequence = 38281, 29374, 4921")
    visit.save("[cloud, with a rather long name]\nhost = 2001:db8::7\notp = seed,60,20000,off,tcp,tcp")
    bare = visit.browser.run(DONE + """
    by('add').click();
    const unnamed = [...document.querySelectorAll('input, select, textarea, button')]
      .filter(it => !(it.labels?.length || it.textContent.trim() || it.ariaLabel)).map(it => it.outerHTML);
    const loaded = performance.getEntriesByType('resource').map(it => it.name);
    const focus = document.activeElement.id;
    done([unnamed, loaded, focus, by('status').getAttribute('role')]);
    """)
    result("everything has a name for a screen reader, and nothing is loaded",
           bare == [[], [], "form-title", "status"], bare)
    pictures = os.environ.get("SCREENSHOTS")
    for name, width, is_dark, is_form in (("light", 900, False, False), ("dark", 900, True, False), ("narrow", 340, False, True),
                                          ("narrow-dark", 340, True, True)):
        visit.browser.resize(width, 900)
        visit.browser.dark(is_dark)
        wanted = "rgb(15, 19, 24)" if is_dark else "rgb(246, 247, 249)"
        seen = visit.browser.run(DONE + """
        by('form').hidden = !arguments[0];
        const colour = () => getComputedStyle(document.body).backgroundColor;
        const end = Date.now() + 5000;
        const look = () => colour() === arguments[1] || Date.now() > end
          ? done([document.documentElement.scrollWidth - innerWidth, colour()]) : setTimeout(look, 50);
        look();
        """, is_form, wanted)
        result(f"{name}: fits the screen, in its colours", seen[0] <= 0 and seen[1] == wanted, seen)
        if pictures:
            Path(pictures, f"{sys.argv[1]}-{name}.png").write_bytes(visit.browser.picture())


GROUPS = (
    (vectors, refusals, manners),
    (fixed,),
    (one_time,),
    (protected,),
    (unconfirmed, links_and_storage),
    (long,),
    (made,),
)


def main():
    log = Log(sys.argv[2])
    kind = {"chromium": Chromium, "firefox": Firefox}[sys.argv[1]]
    # Each group in a browser that remembers nothing: Chromium counts the sockets that failed.
    for group in GROUPS:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            browser = kind(home)
            try:
                visit = Visit(browser, log)
                for trial in group:
                    trial(visit)
            finally:
                browser.quit()


main()
