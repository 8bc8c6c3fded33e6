"""Charts as inline, static SVG.

Drawn by hand: the chart libraries for Python either need a script in the page (Plotly, Altair,
Bokeh, pygal's tooltips), or bring NumPy and a font engine for some lines and dots (Matplotlib),
and none follows the reader's dark mode. What is needed here are five charts without a script.

Each has a title and a description for screen readers, presentation attributes that hold where a
viewer strips style sheets, and classes that a style sheet recolours.
"""
