"""The story of contrib/demo-fleet.sh: three gateways, one knock.  Each step says what it sees, or fails."""

import os
import signal
import subprocess
import sys
import tempfile
import time

from fleet_world import CLIENT, ENGINE, PORT, VIP, Engine, Gateway, Service, World, run, within

PROGRAMS = {"knockd": os.environ["KNOCKD"], "knock": os.environ["KNOCK"], "knockd-fleet": os.environ["KNOCKD_FLEET"]}
PERIOD = 3600
LIST = f"a seed that all gateways share,{PERIOD},20000,off,udp,udp,udp"
# Without OTP_Window = 0, the last port of a used list would begin, by chance in one hour of a hundred, the list of the hour
# before or after: that attempt would take the knock behind it.
DOORS = f"""
[ssh]
    Sequence = 28101:udp
    Open = tcp/22
    Cmd_Timeout = 15
[vpn]
    OTP = {LIST}
    OTP_Window = 0
    Open = tcp/443
    Cmd_Timeout = 15
"""
steps = 0


def step(text):
    global steps  # pylint: disable=global-statement
    steps += 1
    print(f"\n{steps}. {text}", flush=True)


def seen(text):
    print(f"   {text}", flush=True)


def must(condition, text):
    if not condition:
        raise AssertionError(text)
    seen(text)


def answers(world, port):
    """How many of 24 connections each gateway answered."""
    got = world.connect_often(port, 24, limit=5 if port else 1)
    return {name: got.count(name) for name in sorted(set(filter(None, got)))}, got.count(None)


def story(world):
    began = time.monotonic()
    engine = Engine(world, os.environ.get("ENGINE", "redis-server"))
    step(f"Three gateways with one address, {VIP}, a router that spreads connections over them by address and port, "
         f"a client ({CLIENT}), and an engine ({ENGINE}:{PORT}) on a network of its own")
    engine.start()
    gateways = [Gateway(world, number, PROGRAMS, DOORS) for number in (1, 2, 3)]
    services = [Service(gateway.place, port) for gateway in gateways for port in (22, 443)]
    must(len(services) == 6, "each gateway has an SSH-like service at port 22 and another one at 443")
    open_, closed = answers(world, 22)
    must(sum(open_.values()) == 24 and len(open_) == 3, f"24 connections to {VIP}:22 reach them all: {open_}")

    step("knockd and knockd-fleet start on each; Guard = yes shuts the ports")
    print("".join(f"   | {line}\n" for line in DOORS.strip().splitlines()), end="")
    for gateway in gateways:
        gateway.start()
    # The kernel drops what is shut: nobody answers, which takes as long as one waits.
    got = world.connect_often(22, 24, limit=0.5)
    must(not any(got), "none of 24 connections is answered")

    def knock(words, text):
        seen(f"client$ knock {' '.join(map(str, words))}")
        run(*world.client.words(PROGRAMS["knock"], *words))
        for gateway in gateways:
            gateway.wait_for(text)

    step("One knock of one port, which arrives at one of them")
    knock([VIP, "28101:udp"], f"{CLIENT}: ssh: opened tcp/22")
    knocked = [gateway.name for gateway in gateways if "OPEN SESAME" in gateway.log()]
    must(len(knocked) == 1, f"{knocked[0]} logs OPEN SESAME, the two others: opened by the fleet")
    open_, closed = answers(world, 22)
    must(sum(open_.values()) == 24 and len(open_) == 3, f"24 connections, all answered: {open_}")
    for gateway in gateways:
        gateway.wait_for(f"{CLIENT}: ssh: closed")
    must(not any(world.connect_often(22, 24, limit=0.5)), "after its time the door is closed on all three")

    step("A list of one-time ports is used up everywhere")
    left = PERIOD - time.time() % PERIOD
    if left < 30:
        seen(f"the list of this hour is good for {left:.0f} s more: waiting for the next one")
        time.sleep(left + 1)
    opened = f"{CLIENT}: vpn: opened tcp/443"
    # Each list goes to a gateway of its own choice here: the router would spread its knocks.
    knock(["--otp", LIST, "10.90.1.2"], opened)
    sesames = lambda: sum(gateway.log().count("vpn: OPEN SESAME") for gateway in gateways)
    must(sesames() == 1, "g1 opens it, and with it the others")
    for number in (1, 2, 3):
        run(*world.client.words(PROGRAMS["knock"], "--otp", LIST, f"10.90.{number}.2"))
    # A knock behind the lists, on each gateway.
    for number, gateway in enumerate(gateways, 1):
        sesame = lambda: gateway.log().count(f"{CLIENT}: ssh: OPEN SESAME")
        before = sesame()
        run(*world.client.words(PROGRAMS["knock"], f"10.90.{number}.2", "28101:udp"))
        must(within(lambda: sesame() > before), f"{gateway.name} has seen all knocks")
    must(sesames() == 1, "the same list again, at g1, g2 and g3: refused everywhere")

    step("The engine is killed: each gateway goes on alone")
    for gateway in gateways:
        gateway.wait_for(f"{CLIENT}: ssh: closed", 2)
    engine.signal(signal.SIGKILL)
    must(within(lambda: all(it.status().get("engine_in_reach") is False for it in gateways)), "out of reach")
    run(*world.client.words(PROGRAMS["knock"], "10.90.1.2", "28101:udp"))
    gateways[0].wait_for(f"{CLIENT}: ssh: opened tcp/22", 3)
    must(within(lambda: gateways[0].status()["waiting"] > 0), "g1 opens; what the others are to be told waits")

    step("The engine is back: the others open for what is left of the time")
    engine.start()
    for gateway in gateways[1:]:
        gateway.wait_for(f"{CLIENT}: ssh: opened tcp/22", 3)
        line = [it for it in gateway.log().splitlines() if "ssh: opened by the fleet" in it][-1]
        seen(f"{gateway.name}: {line}")
    print("\nknockd-fleet --status, on g1:")
    said = run(PROGRAMS["knockd-fleet"], "-c", gateways[0].path("fleet.conf"), "--status").stdout
    print("".join(f"   | {line}\n" for line in said.splitlines()), end="")
    print(f"\ndemo: all {steps} steps passed ({time.monotonic() - began:.0f} s)")
    return gateways


def main():
    folder = tempfile.mkdtemp(prefix="fleet-demo.")
    world = World(folder)
    try:
        story(world)
    except AssertionError as error:
        print(f"   {error}\n\ndemo: step {steps} failed")
        return 1
    finally:
        world.end()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        print(error)
        sys.exit(1)
