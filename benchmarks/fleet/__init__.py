"""How a fleet of models is scanned on a cluster: faster with more workers, the same whoever is lost."""
