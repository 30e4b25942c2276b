"""The command line. What a command needs is imported when it runs: `sidecar --help` should not wait for aiohttp.

Exit codes: 0; 64 for usage or configuration; 70 for our own fault. `run` exits as its command did, `status` with 69
when no sidecar answers, `doctor` with 1 when something is broken.
"""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sidecar import __version__

if TYPE_CHECKING:
    from sidecar.core.config import Address

_USAGE = 64
_OUR_FAULT = 70

_config = click.option(
    "--config",
    "path",
    metavar="FILE",
    envvar="SIDECAR_CONFIG",
    help="The configuration ($SIDECAR_CONFIG). Without one: the providers whose keys are in the environment.",
)
_loop = click.option(
    "--loop", type=click.Choice(["uvloop", "asyncio"]), default="uvloop", show_default=True, help="The event loop."
)


def _version(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if not is_asked:
        return
    found = find_spec("sidecar.core.quota")
    is_compiled = found is not None and not str(found.origin).endswith(".py")
    click.echo(f"sidecar, version {__version__}{', compiled' if is_compiled else ''}")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Which one it is.")
def cli() -> None:
    """An LLM rate-limit proxy that runs beside one application.

    `sidecar COMMAND --help` tells more of each command.
    """


@cli.command()
@_config
@_loop
@click.option("--listen", metavar="HOST:PORT", help="Where to listen, whatever the configuration says.")
@click.option("--admin", metavar="HOST:PORT", help="Likewise for the admin port. *:8788 is every address.")
@click.option("--wait-for-config", "waits", is_flag=True, help="If FILE is absent, answer 503 until it appears.")
def serve(path: str | None, loop: str, listen: str | None, admin: str | None, waits: bool) -> None:
    """Serve until told to stop.

    SIGTERM lets running requests finish, a second one does not; SIGHUP reads the configuration again.
    """
    from sidecar import serving
    from sidecar.app import Source
    from sidecar.core.config_shape import with_twin

    data, control = _address("--listen", listen), _address("--admin", admin)
    source = Source(path, serving.environment(), with_twin(data) if data else (), control, waits)
    sys.exit(serving.serve(source, loop))


def _address(option: str, text: str | None) -> Address | None:
    from sidecar.core.config_shape import read_address

    address = read_address(text) if text is not None else None
    if text is not None and address is None:
        raise click.UsageError(f"{option}: an IP address and a port, such as 127.0.0.1:8787 or *:8788")
    return address


@cli.command()
@click.argument("file", required=False)
@_config
def check(file: str | None, path: str | None) -> None:
    """Check a configuration and print what it amounts to."""
    from sidecar import checking

    sys.exit(checking.check(file or path))


@cli.command()
@_config
@click.option("--admin", metavar="ADDRESS", help="Its admin port, instead of what the configuration says.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--watch", is_flag=True, help="Print it again every two seconds, until Ctrl-C.")
def status(path: str | None, admin: str | None, as_json: bool, watch: bool) -> None:
    """Print what a running sidecar does now.

    Its quotas, its keys, who waits, and the last requests.
    """
    from sidecar import watching

    sys.exit(watching.status(path, admin, watching.Wish(as_json, watch)))


@cli.command()
@_config
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def doctor(path: str | None, as_json: bool) -> None:
    """Test everything a request depends on, and say what to do.

    Names, connections, certificates, keys, clock, ports, files and proxies; no tokens are spent.
    """
    from sidecar import doctor as examining

    sys.exit(examining.examine(path, as_json))


@cli.command()
@_config
@click.option(
    "--shell", type=click.Choice(["sh", "fish", "powershell"]), default="sh", show_default=True, help="For this shell."
)
def env(path: str | None, shell: str) -> None:
    """Print the lines that point applications here.

    In a shell: eval "$(sidecar env)"
    """
    from sidecar import checking

    sys.exit(checking.env(path, shell))


@cli.command(context_settings={"ignore_unknown_options": True})
@_config
@_loop
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(path: str | None, loop: str, command: tuple[str, ...]) -> None:
    """Start a sidecar, run COMMAND with it, stop it.

    COMMAND finds the sidecar by its environment: sidecar run -- python app.py
    """
    from sidecar import running

    sys.exit(running.run(path, loop, command))


@cli.command()
@click.option("--dialect", type=click.Choice(["groq", "cerebras", "openai", "deepinfra"]), required=True, help="Whose.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", default=9000, show_default=True, type=click.IntRange(0, 65535), help="0: any.")
@click.option(
    "--key", "keys", multiple=True, metavar="SECRET=ACCOUNT", help="A valid key, repeatable. Without any, every key is."
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="RULE",
    help="Such as account=org-a,model=llama*,rpm=30,tpm=6000; repeatable.",
)
@click.option(
    "--model", "models", multiple=True, metavar="NAME", help="A model that exists, repeatable. Without any, all do."
)
@click.option("--tokens", default=32, show_default=True, help="Tokens of an answer.")
@click.option("--chunks", default=8, show_default=True, help="Pieces of a streamed answer.")
@click.option("--latency", default=0.0, show_default=True, metavar="SECONDS", help="Time before an answer.")
@click.option("--chunk-delay", default=0.0, show_default=True, metavar="SECONDS", help="Time between pieces.")
def sim(dialect: str, host: str, port: int, **spec: Any) -> None:  # noqa: ANN401  # click passes options by name
    """Simulate a provider.

    Its windows, headers and error bodies, and faults on demand (POST /_sim/faults).
    """
    from sidecar import simulating
    from sidecar.sim.config import Pace, parse_spec

    pace = Pace(spec["tokens"], spec["chunks"], spec["latency"], spec["chunk_delay"])
    try:
        config = parse_spec(dialect, spec["keys"], spec["limits"], spec["models"], pace)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(simulating.simulate(config, host, port))


@cli.command()
@click.option("--serve", "stays", is_flag=True, help="Stay up and print the lines to paste.")
def demo(stays: bool) -> None:
    """Show the main job on two simulated providers."""
    from sidecar import demo as show

    sys.exit(show.demo(stays))


@cli.command()
@click.option(
    "--config", "path", metavar="FILE", envvar="SIDECAR_INJECT_CONFIG", help="Its settings. Without: the defaults."
)
@click.option(
    "--certificates",
    type=click.Choice(["self", "cert-manager", "files"]),
    default="self",
    show_default=True,
    help="Who makes them.",
)
@click.option(
    "--certificate-dir", default="", metavar="DIR", help="Of tls.crt and tls.key, unless it makes them itself."
)
@click.option("--namespace", envvar="POD_NAMESPACE", required=True, metavar="NAME", help="Its own ($POD_NAMESPACE).")
@click.option(
    "--service",
    default="sidecar-injector",
    show_default=True,
    metavar="NAME",
    help="The Service that API servers call.",
)
@click.option("--webhook-configuration", default="", metavar="NAME", help="Named as the service by default.")
@click.option(
    "--listen", default="[::]:10250", show_default=True, metavar="HOST:PORT", help="For /mutate and health, with TLS."
)
@click.option("--metrics-listen", default="[::]:8080", show_default=True, metavar="HOST:PORT", help="For /metrics.")
@click.option(
    "--linger", default="8s", show_default=True, metavar="TIME", help="How long to serve on, unready, after SIGTERM."
)
@click.option("--report-uninjected", is_flag=True, help="Report pods that ask for a sidecar and have none.")
def inject(path: str | None, **told: Any) -> None:  # noqa: ANN401  # click passes options by name
    """Put sidecars into pods, as an admission webhook."""
    from sidecar import injecting
    from sidecar.core.injector_options import Told

    sys.exit(injecting.inject(path, Told(**told)))


@cli.command("inject-check")
@click.option("--namespace", default="default", show_default=True, help="Where a pod is tried; none is created.")
@click.option("--via", default="", metavar="URL", help="Of `kubectl proxy`: http://127.0.0.1:8001. Default: as a pod.")
@click.option("--webhook-configuration", "configuration", default="sidecar-injector", show_default=True)
@click.option("--prefix", default="", help="Of labels, as in the settings of the injector. Default: theirs.")
def inject_check(namespace: str, via: str, configuration: str, prefix: str) -> None:
    """Try whether a pod would get its sidecar.

    By a dry run; what is in the way is named.
    """
    from sidecar import rehearsing
    from sidecar.core.injection_settings import PREFIX
    from sidecar.core.rehearsal import Asked

    sys.exit(rehearsing.rehearse(Asked(namespace, prefix or PREFIX, configuration), via))


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """A signal before there is anything to drain: leave at once, and in order."""
    sys.exit(0)


def main() -> None:
    """The entry point: usage errors exit 64, what we did not foresee 70."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(_USAGE)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(_OUR_FAULT)


if __name__ == "__main__":
    main()
