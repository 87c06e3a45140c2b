"""A recipe of toy stages that count how often they run."""

from dataclasses import dataclass
from typing import ClassVar

from wsseg.config import setting
from wsseg.errors import StageError
from wsseg.running.execute import run_plan
from wsseg.stages.protocol import Role
from wsseg.store.files import atomic_write

RECIPE = """
description = "two toys"
[steps.first]
stage = "write"
inputs = { images = "data.train" }
[steps.second]
stage = "copy"
inputs = { thing = "first" }
[steps.evaluated]
stage = "write"
inputs = { images = "data.val" }
optional = true
"""

MEASURED_RECIPE = """
[steps.first]
stage = "write"
inputs = { images = "data.train" }
[steps.figures]
stage = "measure"
inputs = { thing = "first" }
[steps.second]
stage = "copy"
inputs = { thing = "first" }
"""


@dataclass(frozen=True)
class WriteConfig:
    size: int = setting(1)
    workers: int = setting(0, execution=True)


@dataclass(frozen=True)
class CopyConfig:
    times: float = setting(1.0)


class Write:
    name, table, version, Config, output = "write", "write", 1, WriteConfig, "thing"
    distributed = False
    measures = False
    inputs: ClassVar = {"images": Role(("images",))}
    runs: ClassVar = []
    fail_after = None

    def check(self, config, inputs):
        pass

    def run(self, config, inputs, out):
        self.runs.append(self.name)
        made = 0
        for item in inputs["images"].items:
            path = out / "items" / f"{item.id}.txt"
            if not path.is_file():
                if made == self.fail_after:
                    raise StageError("stopped on purpose")
                atomic_write(path, f"{item.id} {config.size}".encode())
                made += 1
        return {"made": made}


class Copy(Write):
    name, table, Config = "copy", "copy", CopyConfig
    inputs: ClassVar = {"thing": Role(("thing",))}

    def run(self, config, inputs, out):
        self.runs.append(self.name)
        text = b"".join(inputs["thing"].read_bytes(f"items/{i}.txt") for i in inputs["thing"].ids("items", ".txt"))
        atomic_write(out / "all.txt", text * int(config.times))
        return {"bytes": len(text)}


class Measure(Write):
    """A measuring stage; it comes before `copy` in its recipe."""

    name, output, measures = "measure", "figures", True
    inputs: ClassVar = {"thing": Role(("thing",))}
    error = None

    def run(self, config, inputs, out):
        self.runs.append(self.name)
        if self.error:
            raise self.error
        return {"measured": len(inputs["thing"].ids("items", ".txt"))}


def run_toys(toys, *overrides, repair=False):
    """Plan and run the recipe of the fixture `toys`; returns the state of each step by name."""
    plan = toys(*overrides)
    run_plan(plan, repair)
    return {p.step.name: p.state for p in plan.steps}
