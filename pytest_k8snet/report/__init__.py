"""Draws what a run recorded: terminal table, HTML, Markdown, results file, baseline.

The report is a function of records (plain JSON-safe dicts, see ``docs/results.md``). It sees no
cluster, takes no sample and judges nothing anew.
"""
