"""Takes samples: where they run (endpoints), between whom (pairs), and how (the sampler).

Knows nothing of limits and verdicts, nor of pytest: what it sees it tells an
:class:`~pytest_k8snet.measure.sampler.Observer`.
"""
