"""The lab's packets: namespaces, links, tunnels, routes, NAT. Knows no Kubernetes object."""
