"""The table of networks and the table of metrics, assembled from the rows that each network's evaluation defines.

A new network adds a row to NETWORKS and to METRICS; registry, promotion, drift, reports, search and docs read them
here.
"""

from collections.abc import Mapping

from stages.evaluation.classifier import table as classifier
from stages.evaluation.generator import table as generator
from stages.evaluation.reporting.metric import Metric, rows_by_name
from stages.serving.registry.network import Network

CNN, GAN = classifier.NETWORK, generator.NETWORK
NETWORKS: Mapping[str, Network] = {network.section: network for network in (CNN, GAN)}  # by section of params.yaml
METRICS: Mapping[str, Mapping[str, Metric]] = {  # by section and name, as metrics.json nests them
    CNN.section: rows_by_name(classifier.METRICS),
    GAN.section: rows_by_name(generator.METRICS),
}


def network_of(model: str) -> Network:
    """The network of a registered model. Raises KeyError for an unknown name."""
    return {network.model: network for network in NETWORKS.values()}[model]
