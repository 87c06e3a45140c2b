"""``python -m wsseg``."""

from wsseg.cli.main import main

main()
