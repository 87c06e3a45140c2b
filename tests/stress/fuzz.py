"""Coverage-guided fuzzing (atheris, `pip install atheris`) of what reads configs, recipes, label files and run records.

python -m tests.stress.fuzz coco -max_total_time=300
python -m tests.stress.fuzz config corpus/ -runs=100000

It stops at anything but a result or a one-line error of wsseg; the input is kept in a crash- file.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["wsseg", "tomllib", "csv", "json", "xml"]):
    from tests.stress.texts import judge, parsers


def main() -> None:
    """Fuzz one parser; the arguments after its name go to libFuzzer."""
    with tempfile.TemporaryDirectory(prefix="wsseg-fuzz-") as folder:
        readers = parsers(Path(folder))
        if len(sys.argv) < 2 or sys.argv[1] not in readers:
            sys.exit(f"usage: python -m tests.stress.fuzz {{{','.join(readers)}}} [libFuzzer's options]")
        name = sys.argv.pop(1)
        sound, read = readers[name]
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
