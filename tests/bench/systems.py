"""The systems under load: each starts as three nodes on loopback and ends with everything it started.

Every node writes to the same disk, with the durability its defaults give: all three systems sync the
log before they answer. Invariant: a process that was started here is dead when its `stop` returns.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.request

NODES = 3
HOST = "127.0.0.1"
START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 10
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """The comparison can't go on."""


def free_ports(count):
    """Ports that nobody listens on, asked from the system."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def free_port_row(width):
    """A port with `width` free ones from it on: `caucus dev` counts up from its first."""
    for _ in range(200):
        first = free_ports(1)[0]
        try:
            with contextlib.ExitStack() as stack:
                for port in range(first, first + width):
                    stack.enter_context(socket.socket()).bind((HOST, port))
            return first
        except (OSError, OverflowError):
            continue
    raise Failed(f"no {width} free ports in a row")


def die_with_parent():
    """In the child, before it becomes the server: even a killed comparison leaves nothing behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def parents():
    """Process to parent, of all processes."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rsplit(") ", 1)[1].split()
                found[int(entry.name)] = int(fields[1])
    return found


def tree(roots):
    """The processes and all their descendants."""
    members, table = list(roots), parents()
    for pid in members:
        members += [child for child, parent in table.items() if parent == pid and child not in members]
    return members


class System:
    """Processes, and where their clients go."""

    def __init__(self, name, directory):
        self.name = name
        self.directory = directory / name
        self.endpoints = []
        self.processes = []

    def spawn(self, node, command):
        """Starts one process in a group of its own, its output in a file."""
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / f"{node}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                cwd=self.directory, start_new_session=True, preexec_fn=die_with_parent)
        self.processes.append(process)
        return log

    def wait_until(self, ready, log):
        """Waits for a condition while the processes live."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready():
            dead = [process for process in self.processes if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise Failed(f"{self.name} doesn't start:\n{tail(log)}")
            time.sleep(0.1)

    def pids(self):
        """All processes of the system."""
        return tree(process.pid for process in self.processes)

    def stop(self):
        """Asks, then kills: the groups, and what left them."""
        members = self.pids()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
            for process in self.processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_TIMEOUT_S)
        for pid in set(members) & set(parents()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.processes = []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()


class Etcd(System):
    """etcd with its defaults; gRPC and the JSON gateway share the client port."""

    def start(self):
        ports = free_ports(2 * NODES)
        clients, peers = ports[:NODES], ports[NODES:]
        cluster = ",".join(f"n{i}=http://{HOST}:{peer}" for i, peer in enumerate(peers))
        for i in range(NODES):
            client, peer = f"http://{HOST}:{clients[i]}", f"http://{HOST}:{peers[i]}"
            log = self.spawn(f"n{i}", [
                "etcd", "--name", f"n{i}", "--data-dir", str(self.directory / f"n{i}"),
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", cluster, "--initial-cluster-state", "new"])
        self.endpoints = [f"{HOST}:{port}" for port in clients]
        for endpoint in self.endpoints:
            self.wait_until(lambda: '"true"' in fetch(f"http://{endpoint}/health"), log)


class Zookeeper(System):
    """ZooKeeper with its defaults, but without a limit on the connections of one client host."""

    def start(self):
        ports = free_ports(3 * NODES)
        clients, peers, elections = ports[:NODES], ports[NODES:2 * NODES], ports[2 * NODES:]
        servers = [f"server.{i + 1}={HOST}:{peers[i]}:{elections[i]}" for i in range(NODES)]
        for i in range(NODES):
            data = self.directory / f"n{i}"
            data.mkdir(parents=True)
            (data / "myid").write_text(f"{i + 1}\n")
            configuration = self.directory / f"n{i}.cfg"
            configuration.write_text("\n".join([
                "tickTime=2000", "initLimit=10", "syncLimit=5", "maxClientCnxns=0",
                "admin.enableServer=false", "4lw.commands.whitelist=srvr",
                f"dataDir={data}", f"clientPort={clients[i]}", *servers]) + "\n")
            log = self.spawn(f"n{i}", [
                "java", "-cp", "/usr/share/java/zookeeper.jar",
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(configuration)])
        self.endpoints = [f"{HOST}:{port}" for port in clients]
        for port in clients:
            self.wait_until(lambda: "Mode: " in four_letters(port, b"srvr"), log)


class Caucus(System):
    """`caucus dev` with a number of data groups."""

    PORT_STEP = 10

    def __init__(self, binary, groups, directory):
        super().__init__(f"caucus-{groups}", directory)
        self.binary = binary
        self.groups = groups

    def start(self):
        first = free_port_row(self.PORT_STEP * (NODES + 1))
        log = self.spawn("dev", [
            str(self.binary), "dev", "--nodes", str(NODES), "--groups", str(self.groups),
            "--port", str(first), "--data-dir", str(self.directory / "nodes")])
        ports = [first + self.PORT_STEP * i for i in range(NODES)]
        self.endpoints = [f"{HOST}:{port}" for port in ports]
        self.wait_until(lambda: re.search(r"^ready ", log.read_text("utf-8", "replace"), re.M), log)


def fetch(url):
    """Body of an answer, empty if there is none."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def four_letters(port, word):
    """Answer to one of ZooKeeper's words, empty if there is none."""
    try:
        with socket.create_connection((HOST, port), 2) as connection:
            connection.sendall(word)
            return b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    except OSError:
        return ""


def tail(log):
    """The last lines of a file."""
    lines = log.read_text("utf-8", "replace").splitlines()
    return "\n".join(lines[-15:])
