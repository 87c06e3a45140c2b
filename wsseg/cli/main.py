"""The command group and the entry point of the console script."""

import click

import wsseg
from wsseg import streams
from wsseg.cli import completion, data, look, marks, run, store, use
from wsseg.cli.options import Command

COMMANDS = (
    run.run, run.plan, run.list_shipped,
    store.status, store.verify, store.gc, store.show, store.store,
    data.init, data.data, marks.marks,
    look.report, look.view, look.explain, look.audit,
    use.predict, use.export, use.evaluate,
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(wsseg.__version__)
def cli() -> None:
    """Weakly supervised segmentation.

    Image-level labels in, pixel masks and a segmentation network out.

    \b
    wsseg run cam_crf -c demo                 run a recipe on generated images
    wsseg data check -c mine.toml             check a data set
    wsseg plan cam_crf -c mine.toml           show what would run, and why
    wsseg predict segmenter photos -o masks   segment photographs
    """


@cli.command(name="completion", cls=Command)
@click.argument("shell", type=click.Choice(completion.SHELLS))
def completion_command(shell: str) -> None:
    """Print the completion script of a shell.

    With it, SHELL completes recipes, configs, config keys, steps and runs.

    \b
    eval "$(wsseg completion bash)"          in ~/.bashrc; zsh likewise
    wsseg completion fish > ~/.config/fish/completions/wsseg.fish
    """
    click.echo(completion.script(cli, shell))


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line."""
    streams.prepare()
    cli(prog_name="wsseg")
