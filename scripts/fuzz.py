"""Coverage-guided fuzzing (atheris, `pip install atheris`) of what reads configs, recipes, label files and run records.

python scripts/fuzz.py coco -max_total_time=300
python scripts/fuzz.py config corpus/ -runs=100000

Anything but a result or a one-line error of wsseg's own ends it, and the input is left in a crash- file.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["wsseg", "tomllib", "csv", "json", "xml"]):
    from tortures.texts import judge, parsers


def main() -> None:
    """Fuzz one parser; what follows its name goes to libFuzzer."""
    with tempfile.TemporaryDirectory(prefix="wsseg-fuzz-") as folder:
        known = parsers(Path(folder))
        if len(sys.argv) < 2 or sys.argv[1] not in known:
            sys.exit(f"usage: python scripts/fuzz.py {{{','.join(known)}}} [libFuzzer's options]")
        name = sys.argv.pop(1)
        sound, read = known[name]
        (seeds := Path(folder) / "sound").mkdir()
        (seeds / name).write_text(sound)

        def one(data: bytes) -> None:
            verdict, why = judge(read, data)
            if verdict == "failed":
                raise RuntimeError(why)

        atheris.Setup([*sys.argv, str(seeds)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
