"""Small plots as SVG by hand: bars with intervals, a grid of bars, lines. Readable on light and on dark ground."""

import math
from html import escape

STYLE = """<style>
.ground { fill: #ffffff; } text { fill: #1f2328; font: 13px sans-serif; } .faint { fill: #59636e; }
.title { font-weight: 600; font-size: 15px; } .grid { stroke: #d1d9e0; } .axis { stroke: #59636e; }
.number { font-size: 12px; } .worse { fill: #bc4c00; }
.bar { fill: #0969da; } .reference { fill: #59636e; } .interval { stroke: #1f2328; stroke-width: 1.5; }
.line { fill: none; stroke-width: 2; } .a { stroke: #0969da; } .b { stroke: #bc4c00; } .c { stroke: #1a7f37; }
.dot.a { fill: #0969da; } .dot.b { fill: #bc4c00; } .dot.c { fill: #1a7f37; }
.mark { stroke: #cf222e; stroke-dasharray: 5 4; }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #9198a1; } .grid { stroke: #30363d; }
.axis { stroke: #9198a1; } .worse { fill: #f0883e; } .bar { fill: #58a6ff; } .reference { fill: #9198a1; } .interval { stroke: #ffffff; }
.a { stroke: #58a6ff; } .b { stroke: #f0883e; } .c { stroke: #3fb950; }
.dot.a { fill: #58a6ff; } .dot.b { fill: #f0883e; } .dot.c { fill: #3fb950; } .mark { stroke: #ff7b72; }
}
</style>"""

WIDTH, LABEL_WIDTH, VALUE_WIDTH, ROW = 820, 190, 170, 26


def document(width, height, title, parts):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img"><title>{escape(title)}</title>')
    ground = f'<rect class="ground" width="{width}" height="{height}"/>'
    return "\n".join([head, STYLE, ground, *parts, "</svg>", ""])


def text(x, y, words, classes="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1, y1, x2, y2, classes):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{classes}"/>'


def bars(title, note, groups):
    """`groups`: (heading, [(label, value, low, high)]); the first of each is the reference."""
    parts, y = [text(16, 26, title, "title"), text(16, 46, note, "faint")], 76
    for heading, rows in groups:
        parts.append(text(16, y, heading, "title"))
        y += 12
        parts += group(rows, y)
        y += ROW * len(rows) + 34
    return document(WIDTH, y, title, parts)


def group(rows, y):
    most = max([1.0, *(high for _, _, _, high in rows)])
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH

    def across(value):
        return LABEL_WIDTH + room * value / most

    parts = [line(across(1), y, across(1), y + ROW * len(rows), "grid")]
    for index, (label, value, low, high) in enumerate(rows):
        top, middle = y + ROW * index + 4, y + ROW * (index + 0.5)
        parts += [
            text(LABEL_WIDTH - 8, middle + 4, label, anchor="end"),
            f'<rect class="{"bar" if index else "reference"}" x="{LABEL_WIDTH}" y="{top:.1f}" '
            f'width="{across(value) - LABEL_WIDTH:.1f}" height="{ROW - 8}"/>',
            line(across(low), middle, across(high), middle, "interval"),
            line(across(low), middle - 5, across(low), middle + 5, "interval"),
            line(across(high), middle - 5, across(high), middle + 5, "interval"),
            text(LABEL_WIDTH + room + 8, middle + 4, f"{value:.2f} ({low:.2f} to {high:.2f})", "faint"),
        ]
    return parts


def grid(title, note, columns, rows):
    """`rows`: (label, {column: (value, low, high)}); the first column is what the others are compared
    with, and is 1. Whoever is below it, with an interval that leaves out 1, is shown in another colour."""
    label, cell, height, top = 330, 84, 34, 96
    width = label + cell * len(columns) + 16
    parts = [text(16, 26, title, "title"), text(16, 46, note, "faint")]
    parts += [text(label + cell * index + 4, top - 14, name, "number") for index, name in enumerate(columns)]
    for number, (name, found) in enumerate(rows):
        y = top + height * number
        parts += [line(16, y - 6, width - 16, y - 6, "grid"), text(16, y + 14, name, "number")]
        most = max([1.0, *(value for value, _, _ in found.values())])
        for index, column in enumerate(columns):
            if column in found:
                parts += grid_cell(label + cell * index + 4, y, (cell - 14) / most, found[column], index == 0)
    return document(width, top + height * len(rows) + 8, title, parts)


def grid_cell(x, y, scale, interval, is_first):
    value, low, high = interval
    kind = "bar" if is_first else "worse" if high < 1 else "reference"
    low, high = x + scale * low, x + scale * min(high, value * 1.5)
    return [
        text(x, y + 7, f"{value:.2f}", "number"),
        f'<rect class="{kind}" x="{x:.1f}" y="{y + 12:.1f}" width="{scale * value:.1f}" height="8"/>',
        *([] if is_first else [line(low, y + 16, high, y + 16, "interval")]),
    ]


def ticks(most, wanted=5):
    """Round values from 0 to `most`, about `wanted` of them."""
    power = 10.0 ** math.floor(math.log10(most / wanted))
    step = power * next(unit for unit in (1, 2, 5, 10) if unit * power >= most / wanted)
    return [step * index for index in range(int(most / step) + 1)]


def lines(title, note, across, up, series, marks=()):
    """`series`: (name, [(x, y)]), at most three; `marks`: (x, name) as vertical lines."""
    left, right, top, bottom, height = 80, 24, 76, 90, 460
    points = [point for _, values in series for point in values]
    most_x = max([x for x, _ in points] + [x for x, _ in marks] + [1e-9]) * 1.03
    most_y = max([y for _, y in points] + [1e-9]) * 1.05
    base = height - bottom

    def at(x, y):
        return left + (WIDTH - left - right) * x / most_x, base - (base - top) * y / most_y

    parts = [text(16, 26, title, "title"), text(16, 46, note, "faint")]
    for value in ticks(most_y):
        y = at(0, value)[1]
        parts += [line(left, y, WIDTH - right, y, "grid"), text(left - 8, y + 4, f"{value:,.4g}", "faint", "end")]
    for value in ticks(most_x):
        x = at(value, 0)[0]
        parts += [line(x, base, x, base + 5, "axis"), text(x, base + 20, f"{value:,.0f}", "faint", "middle")]
    parts += [line(left, base, WIDTH - right, base, "axis"), text(left, top - 10, up, "faint"),
              text(WIDTH - right, base + 40, across, "faint", "end")]
    for x, name in marks:
        parts += [line(at(x, 0)[0], top, at(x, 0)[0], base, "mark"),
                  text(at(x, 0)[0] - 5, top + 12, name, "faint", "end")]
    for index, (name, values) in enumerate(series):
        letter = "abc"[index]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*value) for value in values))
        parts.append(f'<polyline class="line {letter}" points="{path}"/>')
        parts += [f'<circle class="dot {letter}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
                  for x, y in (at(*value) for value in values)]
        x = left + 170 * index
        parts += [line(x, height - 22, x + 24, height - 22, f"line {letter}"), text(x + 30, height - 18, name)]
    return document(WIDTH, height, title, parts)
