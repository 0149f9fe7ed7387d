"""The rounds of a soak test (contrib/soak), generated from a seed, and its doors.

This only plans; a round is two lists of steps.  The first has disturbances, and knocks that they
may affect.  Then the daemon gets time to report that it is listening.  The second has knocks that it
must answer, among changes that must not affect them.
"""

import random

# The doors and their sequences.
DOORS = {
    "tcp": [(2001, "tcp"), (2002, "tcp"), (2003, "tcp")],
    "udp": [(3001, "udp"), (3002, "udp"), (3003, "udp")],
    "mixed": [(4001, "tcp"), (4002, "udp"), (4003, "tcp"), (4004, "udp")],
    "slow": [(5001, "tcp"), (5002, "tcp")],
}
# Doors that a variant of the file may leave out.
SOME = ("mixed", "slow")

INTERFACES = ("srv0", "srv0, ext0", "any", "auto")
# The settings under which the daemon listens on ext0.
WITH_EXTRA = ("srv0, ext0", "any")
FIRST = {"interface": "srv0", "open": 2, "without": None, "reopen": "run", "attempts": 65536, "order": 1}
# The door of the second daemon, which shares the state file.
SECOND = [(6001, "tcp"), (6002, "udp")]

# Packets per second.  Low enough that a receive buffer of default size does not overflow while the
# daemon waits for the processor; higher rates are for benchmarks.
FLOOD = 3000


def config(variant, folder):
    """The configuration file of a variant."""
    lines = ["[options]", f"LogFile = {folder}/knockd.log", "Wait_Interface = yes"]
    lines += [f"StateFile = {folder}/state"]
    lines += [f"Interface = {variant['interface']}", f"Max_Attempts = {variant['attempts']}"]
    for number, (name, stages) in list(enumerate(DOORS.items()))[:: variant["order"]]:
        if name == variant["without"]:
            continue
        time = 1 + (variant["open"] + number) % 3
        lines += door(name, stages, time, folder) + [f"Reopen = {variant['reopen']}"]
    return "\n".join(lines) + "\n"


def door(name, stages, time, folder):
    """One section; its commands report what they did, and for which door."""
    sequence = ",".join(f"{port}:{protocol}" for port, protocol in stages)
    pause = "sleep 0.3; " if name == "slow" else ""
    # knockd replaces %IP%; the variables come from the environment of the command, the name from the file.
    return [
        f"[{name}]",
        f"Sequence = {sequence}",
        "Seq_Timeout = 10",
        "TCPFlags = syn",
        f"Cmd_Timeout = {time}",
        f'Start_Command = {pause}echo "$KNOCKD_EVENT %IP% {name}" >>{folder}/events',
        f'Stop_Command = echo "$KNOCKD_EVENT $KNOCKD_IP {name}" >>{folder}/events',
    ]


def second_config(folder):
    """The configuration of the second daemon."""
    lines = ["[options]", f"LogFile = {folder}/second.log", "Wait_Interface = yes", "Interface = srv0"]
    return "\n".join([*lines, f"StateFile = {folder}/state", *door("second", SECOND, 2, folder)]) + "\n"


class Planner:
    """Generates rounds; everything depends on the seed alone."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.variant = dict(FIRST)
        self.is_extra = False
        self.number = 0

    def pause(self, most):
        return ("pause", round(self.random.uniform(0, most), 3))

    def source(self, how, target):
        """A new source address: each knocks only once."""
        self.number += 1
        high, low = divmod(self.number, 250)
        if how == "knock":
            return f"10.77.{16 + high}.{1 + low}"
        if target == "main" and self.random.random() < 0.3:
            return f"fd99::{1 + self.number:x}"
        return f"10.99.{high}.{1 + low}"

    def knock(self, may_be_elsewhere):
        chance = self.random.random()
        target = "main"
        if may_be_elsewhere and chance < 0.15:
            target = "second"
        elif may_be_elsewhere and chance < 0.35 and self.is_extra and self.variant["interface"] in WITH_EXTRA:
            target = "extra"
        how = "packets" if target == "extra" else self.random.choice(["knock", "raw", "packets", "packets"])
        doors = [name for name in DOORS if name != self.variant["without"]]
        return (
            "knock",
            {
                "source": self.source(how, target),
                "target": target,
                "door": self.random.choice(doors),
                "how": how,
                # Milliseconds.  `knock` needs a delay, so that its packets stay in order.
                "delay": self.random.choice([0, 1, 20, 150] if how == "packets" else [5, 20, 150]),
            },
        )

    def disturbance(self):
        draw = self.random
        kind = draw.choices(
            ["down", "carrier", "delete", "rename", "readdress", "reload", "broken"]
            + ["kill", "killed while down", "killed while deleted", "restart"]
            + ["killed twice", "killed while knocking", "edited", "another"],
            [8, 8, 6, 6, 6, 10, 5, 18, 3, 3, 3, 10, 14, 8, 8],
        )[0]
        if kind == "reload":
            self.variant = {
                "interface": draw.choice(INTERFACES),
                "open": draw.randrange(3),
                "without": draw.choice([None, None, *SOME]),
                "reopen": draw.choice(["run", "extend", "ignore"]),
                "attempts": draw.choice([20_000, 65536, 200_000]),
                "order": draw.choice([1, -1]),
            }
            return (kind, dict(self.variant))
        if kind == "edited":
            # The file only: the daemon that runs must not notice, the next one has it.
            self.variant["order"] *= -1
            self.variant["open"] = draw.randrange(3)
            return (kind, dict(self.variant), draw.choice([None, "watcher", "main", "all"]))
        if kind == "killed twice":
            return (kind, draw.choice(["main", "all"]), round(draw.choice([0, 0.05, draw.uniform(0, 1.5)]), 3))
        if kind == "killed while knocking":
            who = draw.choice(["watcher", "main", "all"])
            return (kind, [self.knock(False)[1] for _ in range(draw.randrange(1, 5))], who, round(draw.uniform(0, 0.1), 3))
        if kind == "another":
            # How the second daemon ends, or the first one beside it, and after how long.
            end = draw.choice(["stop", "kill", "first", "both"])
            plan = {"source": self.source("packets", "main"), "target": "main", "door": "second", "how": "packets"}
            return (kind, {**plan, "delay": 1}, end, round(draw.uniform(0, 2.5), 3))
        if kind in ("broken", "restart"):
            return (kind,)
        if kind.startswith("kill"):
            return (kind, draw.choice(["watcher", "main", "all"]))
        # How many seconds it lasts.
        return (kind, round(draw.choice([0, 0.02, 0.2, draw.uniform(0, 1)]), 3))

    def change(self):
        """A change that must not affect knocks in progress."""
        kind = self.random.choice(["second", "second", "extra", "bridge", "flood", "flood"])
        if kind == "extra":
            self.is_extra = not self.is_extra
            return (kind, self.is_extra)
        if kind == "second":
            return (kind, f"10.77.1.{self.random.randrange(1, 250)}")
        if kind == "flood":
            return (kind, self.random.randrange(1 << 32), round(self.random.uniform(0.5, 3), 2), FLOOD)
        return (kind,)

    def round(self):
        draw = self.random
        chaos = [self.change()] if draw.random() < 0.3 else []
        for _ in range(draw.choice([1, 1, 2, 3])):
            chaos += [self.knock(False) for _ in range(draw.randrange(3))]
            chaos += [self.pause(0.3), self.disturbance(), self.pause(0.3)]
        calm = [self.change()] if draw.random() < 0.4 else []
        for _ in range(draw.randrange(4, 10)):
            calm.append(self.knock(True))
            if draw.random() < 0.5:
                calm.append(self.pause(0.3))
            if draw.random() < 0.2:
                calm.append(self.change())
        return chaos, calm


def rounds(seed):
    """Generates all rounds of a seed."""
    planner = Planner(seed)
    while True:
        yield planner.round()
