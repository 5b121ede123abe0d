"""What the comparison must show. Pure: results in, rows out.

`results` maps `SYSTEM/WORKLOAD` to the JSON report of `caucus bench`, and `caucus-64/idle` to what
idle nodes use. A row whose results are missing is not measured, and neither reached nor missed.
"""

import dataclasses

DEFAULT_GROUPS = 6
MANY_GROUPS = 64
GRPC_WORKLOADS = ["put", "get", "txn", "txn2", "list", "lock"]
MEBIBYTE = 1 << 20
NODES = 3

# What is more than a request each, over gRPC: its name, the workload, the clients, options.
SCENARIOS = {
    "watchers": ("watchers", 10_000, ["--keys", "10000", "--writers", "64"]),
    "watchers-of-one-key": ("watchers", 10_000, ["--keys", "1", "--writers", "1"]),
    "waiters": ("waiters", 1_000, []),
    "leases": ("leases", 100_000, []),
}


@dataclasses.dataclass
class Row:
    """One target."""

    what: str
    value: float | None
    bound: float
    at_least: bool
    form: str

    def reached(self):
        """None if it wasn't measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def value_text(self):
        return "-" if self.value is None else self.form.format(self.value)

    def bound_text(self):
        return ("≥ " if self.at_least else "≤ ") + self.form.format(self.bound)

    def verdict(self):
        return {None: "not measured", True: "reached", False: "NOT REACHED"}[self.reached()]


# Workload of Caucus, that of etcd it is held against, the least ratio of their rates, the words.
GRPC_TARGETS = [
    ("put", "put", 3, "puts"),
    ("get", "get", 4, "linearizable gets"),
    ("txn", "txn", 4, "transactions on one key"),
    ("txn2", "txn", 1, "transactions on two directories, to etcd's on one key"),
    ("list", "list", 1, "listings of all keys")]


def grpc_rows(rate, p99):
    """Both over gRPC: throughput and tail at the same number of clients."""
    table = []
    for workload, against, bound, words in GRPC_TARGETS:
        ours, theirs = f"caucus-{DEFAULT_GROUPS}-grpc/{workload}", f"etcd-grpc/{against}"
        value = ratio(rate(ours), rate(theirs))
        table.append(Row(f"gRPC to gRPC: {words}", value, bound, True, "{:.2f} ×"))
        value = ratio(p99(ours), p99(theirs))
        table.append(Row(f"gRPC to gRPC: p99 of {words}", value, 1, False, "{:.2f} ×"))
    return table


def scenario_rows(field):
    """Watchers, waiters and leases, over gRPC."""
    ours, theirs = f"caucus-{DEFAULT_GROUPS}-grpc", "etcd-grpc"
    table = []
    for name, words in (("watchers", "10,000 watchers of as many keys"),
                        ("watchers-of-one-key", "10,000 watchers of one key")):
        rate, p99 = (ratio(field(f"{ours}/{name}", *path), field(f"{theirs}/{name}", *path))
                     for path in (("operations_per_s",), ("latency_us", "p99")))
        table.append(Row(f"gRPC to gRPC: events to {words}", rate, 3, True, "{:.2f} ×"))
        table.append(Row(f"gRPC to gRPC: p99 of events to {words}", p99, 1, False, "{:.2f} ×"))
        memory = field(f"{ours}/{name}", "figures", "rss_bytes_a_watcher")
        table.append(Row(f"bytes resident for each of {words}", memory, 4096, False, "{:,.0f}"))
    turns = (field(f"{system}/waiters", "operations_per_s") for system in (ours, theirs))
    table.append(Row("gRPC to gRPC: turns of 1,000 waiters for one lock", ratio(*turns), 1, True, "{:.2f} ×"))

    def leases(name):
        return field(f"{ours}/leases", "figures", name)

    table.append(Row("of 100,000 leases that are kept alive, lost", leases("leases_lost"), 0, False, "{:,.0f}"))
    memory = ratio(leases("rss_bytes_a_lease"), NODES)
    table.append(Row("bytes resident for each lease, a node", memory, 1024, False, "{:,.0f}"))
    table.append(Row("10,000 leases that end at once: s late", leases("ended_late_s"), 3, False, "{:.1f}"))
    slower = ratio(leases("write_p99_us_while_ending"), leases("write_p99_us_before"))
    table.append(Row("p99 of writes meanwhile, to that before", slower, 2, False, "{:.2f} ×"))
    return table


def ratio(numerator, denominator):
    """None unless both are there."""
    return numerator / denominator if numerator is not None and denominator else None


def rows(results):
    """All targets, in the order of the table."""

    def field(name, *path):
        value = results.get(name)
        for step in path:
            value = value.get(step) if value else None
        return value

    def rate(name):
        return field(name, "operations_per_s")

    def p99(name):
        return field(name, "latency_us", "p99")

    table = []

    def times(what, over, under, bound):
        table.append(Row(what, ratio(rate(over), rate(under)), bound, True, "{:.2f} ×"))

    etcd_p99 = [p99(name) for name in ("etcd-json/put", "etcd-grpc/put") if p99(name)]
    for groups in (DEFAULT_GROUPS, 1):
        ours, label = f"caucus-{groups}/put", "1 group" if groups == 1 else f"{groups} groups"
        times(f"puts, {label}, to etcd's JSON gateway", ours, "etcd-json/put", 5)
        times(f"puts, {label}, to etcd's gRPC", ours, "etcd-grpc/put", 3)
        latency = ratio(p99(ours), min(etcd_p99, default=None))
        table.append(Row(f"p99 of puts, {label}, to etcd's better one", latency, 1, False, "{:.2f} ×"))
    ours = f"caucus-{DEFAULT_GROUPS}/get"
    times("linearizable gets to etcd's JSON gateway", ours, "etcd-json/get", 8)
    times("linearizable gets to etcd's gRPC", ours, "etcd-grpc/get", 5)
    times("linearizable gets to ZooKeeper's stale reads", ours, "zookeeper/get", 1)
    table += grpc_rows(rate, p99)
    batch = rate(f"caucus-{DEFAULT_GROUPS}/batch")
    table.append(Row("keys/s in batches of 100", batch, 60_000, True, "{:,.0f}"))

    locks = f"caucus-{DEFAULT_GROUPS}/lock"
    times("locks that nobody else wants, taken and given back, to etcd's v3lock", locks, "etcd-grpc/lock", 4)
    times("the same to ZooKeeper's recipe", locks, "zookeeper/lock", 4)
    times("gRPC to gRPC: v3lock", f"caucus-{DEFAULT_GROUPS}-grpc/lock", "etcd-grpc/lock", 4)
    published = rate(f"caucus-{DEFAULT_GROUPS}/publish")
    table.append(Row("messages/s published, 100 together", published, 50_000, True, "{:,.0f}"))

    table += scenario_rows(field)

    def cost(name):
        return field(name, "servers", "cpu_us_per_operation")

    many = ratio(cost(f"caucus-{MANY_GROUPS}/put-16-a-group"), cost("caucus-1/put-16-a-group"))
    table.append(Row(f"CPU a put, {MANY_GROUPS} groups to 1, 16 clients a group", many, 1.25, False, "{:.2f} ×"))
    idle = f"caucus-{MANY_GROUPS}/idle"
    table.append(Row(f"{MANY_GROUPS} idle groups, 3 nodes: % of one core", field(idle, "cpu_percent"), 5, False, "{:.1f}"))
    resident = ratio(field(idle, "rss_bytes_a_node"), MEBIBYTE)
    table.append(Row(f"{MANY_GROUPS} idle groups: MiB resident a node", resident, 250, False, "{:.0f}"))
    return table
