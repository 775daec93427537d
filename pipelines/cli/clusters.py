"""Commands of `forget cluster`."""

from __future__ import annotations

from typing import Annotated

import typer

from forget.settings.reading import read_sweep, spec_path
from pipelines import cluster as kubernetes
from pipelines.cli.shared import Spec
from pipelines.cluster import manifests, workers

Context = Annotated[str | None, typer.Option(help="The cluster, by its name in your kubeconfig.")]
Image = Annotated[
    str, typer.Option(help="The image's name; the tracking server's is the same with -mlflow.")
]
Tag = Annotated[str | None, typer.Option(help="The images' tag; by default the git commit.")]
Dirty = Annotated[
    bool, typer.Option("--dirty", help="Let files differ from the commit that names the image.")
]
Overlay = Annotated[
    str, typer.Option(help="Kind and sizes: a folder in k8s/overlays, or one of yours.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be applied, and apply nothing.")
]


def deploy(
    context: Context = None,
    overlay: Overlay = "cpu",
    image: Image = "forget",
    tag: Tag = None,
    dirty: Dirty = False,
    dry_run: DryRun = False,
) -> None:
    """Set up the tracking server, its database and object store; wait until they are healthy."""
    if dry_run:
        print(manifests.render_server(image, manifests.tag_of(tag, dirty), overlay), end="")
        return
    where = kubernetes.connect(context)
    rendered = manifests.render_server(image, manifests.tag_of(tag, dirty), overlay)
    raise typer.Exit(kubernetes.deploy(where, rendered))


def sweep(
    spec: Spec,
    context: Context = None,
    overlay: Overlay = "cpu",
    image: Image = "forget",
    tag: Tag = None,
    dirty: Dirty = False,
    dry_run: DryRun = False,
) -> None:
    """Run what is not finished of a sweep, and follow it.

    Ctrl-C leaves it running. Exit code 1 if a trial failed.
    """
    study, path = read_sweep(spec), spec_path(spec)
    footprint = kubernetes.check_here(study, path)

    def render() -> str:
        tagged = manifests.tag_of(tag, dirty, path)
        return manifests.render_sweep(study, path, overlay, image, tagged, footprint)

    def submitted() -> str:
        rendered = render()
        print("\n".join(workers.described(manifests.parse(rendered), study, footprint)), flush=True)
        return rendered

    if dry_run:
        print(render(), end="")
        return
    hint = f"make sweep CONTEXT={context} SPEC={spec}"
    raise typer.Exit(kubernetes.sweep(kubernetes.connect(context), study, path, hint, submitted))


def doctor(
    context: Context = None,
    overlay: Overlay = "cpu",
    spec: Annotated[str, typer.Option(help="The study: a name or a TOML file.")] = "smoke",
    image: Image = "forget",
    tag: Tag = None,
) -> None:
    """Check what a cluster lacks for `deploy` and `sweep`; each line that is not ok names its cure.

    Exit code 1 if something is not ok.
    """
    from pipelines.cluster.doctor import checks

    where = kubernetes.connect(context)
    study, path = read_sweep(spec), spec_path(spec)
    footprint = kubernetes.check_here(study, path)
    # What runs there need not be what lies here.
    tag = tag or manifests.tag_of(None, dirty=True).removesuffix("-dirty")
    rendered = [
        manifests.render_server(image, tag, overlay),
        manifests.render_sweep(study, path, overlay, image, tag, footprint),
    ]
    healthy = True
    for what, cure in checks(where, manifests.parse("---\n".join(rendered))):
        print(f"{'not ok' if cure else 'ok':<6}  {what}{f': {cure}' if cure else ''}", flush=True)
        healthy &= not cure
    raise typer.Exit(0 if healthy else 1)


def ui(
    context: Context = None, port: Annotated[int, typer.Option(help="Of this machine.")] = 5000
) -> None:
    """Forward a port of this machine to the cluster's MLflow, until Ctrl-C."""
    kubernetes.ui(kubernetes.connect(context), port)


def undeploy(
    context: Context = None,
    data: Annotated[
        bool, typer.Option("--data", help="Delete the volumes and the Secrets as well.")
    ] = False,
) -> None:
    """Delete the tracking server; its volumes and Secrets stay."""
    where = kubernetes.connect(context)
    raise typer.Exit(kubernetes.undeploy(where, manifests.render_server("forget", "none"), data))
