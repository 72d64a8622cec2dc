# SPDX-License-Identifier: GPL-2.0
"""What bench-report and bench-plot share: results, and what they are held against."""

import json
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
V10 = {"qemu-svm": 0, "bochs-vmx": 2}


class Quantity:
    """A number of v10's: one, A-B, or A+P%."""

    def __init__(self, text):
        self.text = text
        m = re.match(r"(\d+)(?:-(\d+)|\+([\d.]+)%)?$", text)
        low = int(m[1])
        self.low, self.high = low, int(m[2] or low)
        if m[3]:
            self.low = self.high = low * (1 + float(m[3]) / 100)

    @property
    def middle(self):
        return (self.low + self.high) / 2

    def __str__(self):
        if self.low == self.high:
            return f"{self.low:,.0f}"
        return f"{self.low:,} to {self.high:,}"


class Target:
    def __init__(self, line):
        fields = line.split()
        self.case, self.against, self.target = fields[:3]
        self.units = int(fields[3])
        self.v10 = [Quantity(x) for x in fields[4:]]

    def __str__(self):
        if not self.target.endswith("x"):
            return self.target
        return self.ratio(float(self.target[:-1]), 1)

    def ratio(self, a, b):
        """Floors are multiplied, exits made a little dearer."""
        return f"{a / b:.2f} x" if self.against.startswith("floor_") else ratio(a, b)

    def limit(self, reference):
        """The target for what costs so much in the case it is held against."""
        if self.target.endswith("x"):
            return float(self.target[:-1]) * reference
        return float(self.target)


def ratio(a, b):
    """As a multiple, or with its sign in percent if it is close to 1."""
    if not b:
        return "-"
    more = (a / b - 1) * 100
    if abs(more) < 5:
        return f"{more:+.2f} %"
    if abs(more) < 25:
        return f"{more:+.1f} %"
    return f"{a / b:.2f} x"


def targets():
    with open(os.path.join(HERE, "bench-targets.txt"), encoding="utf-8") as f:
        return [Target(line) for line in f if line.strip() and not line.startswith("#")]


def load(path):
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def save(path, data):
    with open(path + ".new", "w", encoding="utf-8") as f:
        json.dump(data, f, indent="\t")
        f.write("\n")
    os.rename(path + ".new", path)
