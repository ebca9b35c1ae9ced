"""The page of a comparison: README.md and index.html with tables and pictures, made of what a folder
holds. A page is a list of pieces: ("title" or "heading" or "text", words), ("list", lines),
("table", heads, rows), ("picture", file, words)."""

import html
import json
import os

from . import parts, svg, tables

FOOTPRINT = "footprint.json"
OVERVIEW = "overview.svg"

UNFAIR = [
    "The client runs on the same machine, and perhaps on the same core, as the server. On loopback the connecting side "
    "pays for both ends of each handshake.",
    "nginx writes headers that the others do not (Server, Date); its answer is about 80 bytes longer. Its package is "
    "linked statically against musl and built for size (-Os); the distribution's is not.",
    "The Rust peers have no deadlines, limits or metrics.",
    "Traefik and pingora choose their backlog themselves: net.core.somaxconn, and 65535.",
    "One CPU for a server with two threads is the hardest case for a dedicated acceptor.",
]

# The picture of all works: what stands in a column, the first that a work has. Ours comes first.
FAMILIES = {
    "acceptor": ["default", "default http", "proxy default", "default uneven"],
    "nginx": ["nginx", "nginx stream", "system nginx", "system nginx stream"],
    "HAProxy": ["haproxy splice", "haproxy", "haproxy tcp", "system haproxy", "system haproxy tcp"],
    "Envoy": ["envoy"],
    "Traefik": ["traefik"],
    "pingora": ["pingora proxy"],
    "tokio": ["tokio", "tokio http", "tokio proxy", "tokio uneven"],
    "monoio": ["monoio", "monoio http", "monoio proxy", "monoio uneven"],
    "compio": ["compio", "compio http", "compio uneven"],
    "glommio": ["glommio", "glommio http", "glommio uneven"],
}


def markdown(pieces):
    lines = []
    for kind, *content in pieces:
        if kind == "table":
            heads, rows = content
            lines.append("| " + " | ".join(heads) + " |\n|---|" + "--:|" * (len(heads) - 1))
            lines[-1] += "".join("\n| " + " | ".join(row) + " |" for row in rows)
        elif kind == "list":
            lines.append("\n".join(f"- {line}" for line in content[0]))
        elif kind == "picture":
            lines.append(f"![{content[1]}]({content[0]})")
        else:
            lines.append({"title": "# ", "heading": "## ", "text": ""}[kind] + content[0])
    return "\n\n".join(lines) + "\n"


HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-size: 13px; }} 
td, th {{ border: 1px solid #8886; padding: 2px 8px; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }} img {{ max-width: 100%; }}
</style>
"""


def row(cells, tag):
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def page(pieces):
    lines = [HEAD.format(html.escape(pieces[0][1]))]
    for kind, *content in pieces:
        if kind == "table":
            lines += ["<table>", row(content[0], "th"), *(row(own, "td") for own in content[1]), "</table>"]
        elif kind == "list":
            lines += ["<ul>", *(f"<li>{html.escape(line)}</li>" for line in content[0]), "</ul>"]
        elif kind == "picture":
            lines.append(f'<p><img src="{content[0]}" alt="{html.escape(content[1])}"></p>')
        else:
            tag = {"title": "h1", "heading": "h2", "text": "p"}[kind]
            lines.append(f"<{tag}>{html.escape(content[0])}</{tag}>")
    return "\n".join(lines) + "\n"


def name(document):
    """What a part is called on the page."""
    words = [document["work"]]
    words += ["latency"] if document["kind"] == "latency" else []
    words += [document["layout"].split(",")[0]] if document["workers"] > 1 else []
    words += ["pinned"] if document["pinned"] else []
    words += [f"{document['connections']} connections"] if document["connections"] != 64 else []
    return ", ".join(words) + ("" if document["client"] == "loadgen" else f" ({document['client']})")


def how(document):
    text = (f"{document['layout']}; {len(document['halves'])} windows of {document['seconds']:g} s for each server, "
            f"client {document['client']}, bootstrap with seed {document['seed']}")
    if document["kind"] == "cpu" or document["mode"] in ("rr", "http-keep"):
        text = f"{document['connections']} connections; " + text
    missing = document["wanted"] - len(document["halves"])
    return text + (f"; {missing} more windows were wanted." if missing > 0 else ".")


def picture(document):
    """Bars with intervals of all rows of a part: CPU time, or the p99 at half of the knee."""
    if document["kind"] == "cpu":
        intervals, what = tables.ratios(document)[0], "CPU time per operation"
    else:
        intervals, what = tables.ratios(document, "p99_us", 0.5)[0], "p99 at half of the knee"
    rows = [(server, *intervals[server]) for server in document["servers"]]
    note = f"{document['layout']}; {len(document['halves'])} windows of {document['seconds']:g} s each"
    return svg.bars(f"{what}, ratio to the first server (less is better)", note, [(name(document), rows)])


def cells(document):
    """family: (ratio, low, high) to ours; empty where ours is not among the rows."""
    found = {family: next((row for row in rows if row in document["servers"]), None)
             for family, rows in FAMILIES.items()}
    ours = next(iter(found.values()))
    if ours is None:
        return {}
    value, fraction = ("cpu_us", None) if document["kind"] == "cpu" else ("p99_us", 0.5)
    intervals = tables.ratios(document, value, fraction, to=ours)[0]
    return {family: intervals[row] for family, row in found.items() if row}


def overview(documents):
    """The picture for a reader who looks for half a minute: ours beside the peers in each work."""
    first = documents[0]["machine"]
    rows = [(name(document) + (", p99" if document["kind"] == "latency" else ""), cells(document))
            for document in documents if document["kind"] == "cpu" or document["mode"] == "uneven"]
    rows = [row for row in rows if row[1]]
    there = [family for family in FAMILIES if any(family in found for _, found in rows)]
    return svg.grid("CPU time per operation of the server, acceptor = 1 (less is better)",
                    f"bars: 95 % intervals; {first['cpu']}, Linux {first['kernel']}, {documents[0]['taken']}",
                    there, rows)


def card(document):
    own = document["machine"]
    rows = {"CPU": f"{own['cpu']}, {own['cpus']} usable", "kernel": own["kernel"], "commit": own["commit"],
            "taken": document["taken"], **own["versions"], **own["sysctls"]}
    return ("table", ["machine", ""], [[key, str(value or "not there")] for key, value in rows.items()])


def pieces(documents, footprint):
    found = [("title", "Comparison with other servers")]
    if documents:
        others = {json.dumps(document["machine"]) for _, document in documents}
        found += [("picture", OVERVIEW, "uring-acceptor beside its peers in each work"), card(documents[0][1])]
        if len(others) > 1:
            found.append(("text", "The parts were not all taken at one commit and on one machine: there are "
                                  f"{len(others)} cards, each in the JSON of its part; this is the first."))
    found += [("heading", "What is unfair"), ("list", UNFAIR)]
    for file, document in documents:
        found += [("heading", name(document)), ("text", how(document)), *tables.tables(document),
                  ("picture", f"{file}.svg", name(document))]
    if footprint:
        found += [("heading", "Memory, start and size"), ("table", footprint["heads"], footprint["rows"]),
                  ("text", footprint["note"])]
    return found


def write(folder):
    """README.md, index.html, and a picture of each part and of all. False if there is nothing."""
    documents, footprint = parts.stored(folder), None
    if os.path.exists(os.path.join(folder, FOOTPRINT)):
        with open(os.path.join(folder, FOOTPRINT)) as file:
            footprint = json.load(file)
    if not documents and not footprint:
        return False
    everything = pieces(documents, footprint)
    files = {"README.md": markdown(everything), "index.html": page(everything)}
    files |= {f"{file}.svg": picture(document) for file, document in documents}
    if documents:
        files[OVERVIEW] = overview([document for _, document in documents])
    for file, content in files.items():
        with open(os.path.join(folder, file), "w") as out:
            out.write(content)
    return True
