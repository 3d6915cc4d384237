"""What the figures were measured on."""
import os
import platform
import subprocess
import time


def first_line(*command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    return (out.stdout or out.stderr).split("\n")[0].strip()


def field(path, name):
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    return "unknown"


def describe():
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": field("/proc/cpuinfo", "model name"),
        "mhz": field("/proc/cpuinfo", "cpu MHz"),
        "cores": os.cpu_count(),
        "memory": field("/proc/meminfo", "MemTotal"),
        "hugepages": field("/proc/meminfo", "HugePages_Total"),
        "kernel": platform.release(),
        "rust": first_line("rustc", "--version"),
        "load": os.getloadavg()[0],
    }


def markdown(machine):
    return (f"{machine['date']} · {machine['cpu']}, {machine['cores']} cores at {machine['mhz']} MHz, "
            f"{machine['memory']} · Linux {machine['kernel']} · {machine['rust']} · load before {machine['load']:.2f}")
