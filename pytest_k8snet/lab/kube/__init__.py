"""What Kubernetes' own components do: scheduler, kubelet, controllers, DNS."""
