"""A sweep on Kubernetes, by the user's own kubectl.

These are the makings of `make deploy`, `sweep`, `ui` and `undeploy` with CONTEXT.
"""

from pipelines.cluster.kubectl import Cluster, connect
from pipelines.cluster.needs import OPERATOR, check_here
from pipelines.cluster.rayjob import sweep
from pipelines.cluster.server import deploy, ui, undeploy

__all__ = ["OPERATOR", "Cluster", "check_here", "connect", "deploy", "sweep", "ui", "undeploy"]
