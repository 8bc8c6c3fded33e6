"""Takes samples: where they run (endpoints), between whom (pairs), and how (the sampler).

Knows nothing of limits and verdicts, nor of pytest: what it sees goes to an
:class:`~pytest_k8snet.measure.sampler.Observer`.
"""
