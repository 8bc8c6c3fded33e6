"""The Calico that the lab plays: IPAM, CNI and the node agent, on top of the dataplane."""
