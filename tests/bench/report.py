"""Tables for the terminal and for BENCHMARKS.md."""

BEGIN = "<!-- compare: begin (written by tests/bench/compare --write) -->"
END = "<!-- compare: end -->"
DISTURBED_CORES = 0.2
TITLE = "# Benchmarks\n\n"


def disturbance(report):
    """Cores that neither the servers nor the load generator used."""
    return (report.get("servers") or {}).get("others_cpu_s", 0) / report["duration_s"]


def measured_table(results):
    """One line a measurement."""
    lines = [["system / workload", "clients", "ops/s", "p50 ms", "p99 ms", "errors",
              "server CPU µs/op", "peak RSS MiB", "other CPU"]]
    for name, report in results.items():
        if "latency_us" not in report:
            continue
        latency, servers = report["latency_us"], report.get("servers") or {}
        lines.append([
            name, str(report["clients"]), f"{report['operations_per_s']:,.0f}",
            f"{latency['p50'] / 1000:.1f}", f"{latency['p99'] / 1000:.1f}", str(report["errors"]),
            f"{servers.get('cpu_us_per_operation', 0):.0f}",
            f"{servers.get('rss_bytes_max', 0) / (1 << 20):.0f}",
            f"{disturbance(report):.2f}"])
    return lines


def target_table(rows):
    """One line a target."""
    lines = [["target", "measured", "bound", ""]]
    return lines + [[row.what, row.value_text(), row.bound_text(), row.verdict()] for row in rows]


def plain(lines):
    """Columns for a terminal: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    padded = [[cell.ljust(width) if i == 0 else cell.rjust(width)
               for i, (cell, width) in enumerate(zip(line, widths))] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def markdown(lines):
    """The same as a Markdown table."""
    rule = ["---"] + ["---:"] * (len(lines[0]) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def section(run, results, rows):
    """The generated part of BENCHMARKS.md."""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    how = f"""\
Made by `tests/bench/compare --write` on {run["date"]}: {versions}. {run["cores"]} cores and
{run["memory_gib"]} GiB of memory for the servers and the load generator together; a synced 4 KiB write
takes {run["sync_ms_p50"]:.2f} ms at the median and {run["sync_ms_p99"]:.2f} ms at p99 on the disk that all of them used.

Each system ran as three nodes on loopback with its default durability (the log is synced before the
answer), one system after the other. The load was the same: {run["clients"]} closed-loop clients,
{run["keys"]} keys that all exist, {run["value_bytes"]}-byte values, {run["warmup_s"]} s of warm-up, {run["duration_s"]} s measured,
{run["rounds"]} round(s) of which the median counts. HTTP and ZooKeeper clients have a connection each,
the gRPC clients share {run["grpc_connections"]} connections. etcd and Caucus read linearizably; ZooKeeper reads what the
server of the session has. An operation is a key: a batch of 100 counts 100, and its latency is that of
the request. Over gRPC etcd and Caucus have the same client program and messages: `txn` overwrites a key
if it exists, `txn2` two keys of different directories (for Caucus mostly in two groups) if both exist,
and `list` reads all keys with their values ({run["list_clients"]} clients); each counts one.
`lock` takes a lock that nobody else wants and gives it back: in etcd by its lock service under a lease that the client has, in
ZooKeeper by its recipe (a numbered ephemeral node, the children, the deletion), in Caucus by two requests that grant and end a
lease as well. `publish` publishes 100 messages together, to 16 topics; a message counts one. `watchers` are 10,000 that watch a
key each, of as many or the same, while others overwrite them: an event at one of them counts one, its latency begins with the
put. `waiters` are 1,000 that take one lock by the lock service, give it back at once and want it again: a turn counts one, its
latency is the wait. `leases` are 100,000 that are kept alive, with writes beside them, which are counted; then 10,000 with a
key each end at once. Server CPU is that of all server processes, peak RSS that of the largest since its start;
other CPU is the cores that neither servers nor load generator used: above {DISTURBED_CORES} the line is disturbed."""
    return "\n\n".join([BEGIN, how, markdown(target_table(rows)), markdown(measured_table(results)), END])


def write_section(path, text):
    """Replaces the generated part, or appends it to a file that has none."""
    old = path.read_text("utf-8") if path.exists() else TITLE
    if BEGIN in old and END in old:
        before, rest = old.split(BEGIN, 1)
        new = before + text + rest.split(END, 1)[1]
    else:
        new = old.rstrip("\n") + "\n\n" + text + "\n"
    path.write_text(new, "utf-8")
