"""The `bitsim` group: gathers the commands and turns errors into one line."""

import sys
from typing import Any

import click

from .commands.bench import bench
from .commands.chat import chat
from .commands.convert import convert
from .commands.corpus import corpus
from .commands.doctor import doctor
from .commands.estimate import estimate
from .commands.eval import evaluate
from .commands.fit_check import fit_check
from .commands.fit_law import fit_law
from .commands.hardware import hardware
from .commands.inspect import inspect
from .commands.ladder import ladder
from .commands.plan import plan
from .commands.plot import plot
from .commands.predict import predict
from .commands.quantize import quantize
from .commands.report import report
from .commands.run import run
from .commands.serve import serve
from .commands.sweep import sweep
from .commands.tables import cite, tables
from .commands.train import train
from .commands.validate import validate


class OneLineErrors(click.Group):
    """A group that says what is wrong in one line: exit code 1 for the user's data, 2 for the command line."""

    def main(self, *args: Any, **keywords: Any) -> Any:
        """Run the command; see click.Group."""
        inner = {**keywords, "standalone_mode": False}
        if not keywords.get("standalone_mode", True):
            return super().main(*args, **inner)
        try:
            status = super().main(*args, **inner)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "bitsim"
            _fail(f"{error.format_message()} (try: {command} --help)", error.exit_code)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except click.Abort:
            _fail("stopped", 1)
        except BrokenPipeError:  # the reader of our output, `head` for one, has seen enough
            sys.stderr.close()
            sys.exit(0)
        except OSError as error:
            _fail(f"cannot write the output ({error.strerror or error})", 1)
        except Exception as error:
            from bitsim.energy_tables import BitsimError  # not at the top: `bitsim --help` needs no tables

            if not isinstance(error, BitsimError):
                raise
            _fail(str(error), 1)
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    click.echo("Error: " + " ".join(message.split()), err=True)
    sys.exit(status)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bitsim-llm", prog_name="bitsim")
def cli() -> None:
    """What is a ternary (1.58-bit) language model worth? Energy, latency and memory, FP16 against ternary.

    \b
    bitsim estimate --size 70B                      the whole answer for one size
    bitsim fit-check --hardware raspberry-pi-5      what runs on this machine, and how fast
    bitsim validate                                 published numbers, recomputed
    bitsim run "It is a truth"                      a small ternary model, on this machine
    """


for _command in (
    estimate,
    sweep,
    fit_check,
    hardware,
    tables,
    cite,
    run,
    chat,
    serve,
    evaluate,
    bench,
    convert,
    quantize,
    inspect,
    doctor,
    corpus,
    train,
    ladder,
    fit_law,
    predict,
    plan,
    report,
    plot,
    validate,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line."""
    cli()
