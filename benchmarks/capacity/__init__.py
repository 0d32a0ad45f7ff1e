"""How far it scales: a cost model fitted on the measurements, and a simulation of deployments."""
