"""The processes below another one and their memory, read from Linux's /proc."""

from pathlib import Path


def below(root):
    """The ids of all processes that `root` has started, directly or not."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold any characters; after it come the state and the parent.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            pass
    found, more = set(), {root}
    while more:
        more = {child for child, parent in parents.items() if parent in more}
        found |= more
    return found


def command(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def agent_processes(program):
    """The ids of a program's agents and all that they have started, without our own processes between."""
    return {process for process in below(program) if " child-process " not in command(process)}


def pss(processes):
    """Proportional memory of processes, in bytes."""
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
