#!/usr/bin/env python3
"""Prints the licences, or the list, of the libraries in the static program.

    parts.py notices    the licence texts of all libraries in it
    parts.py sbom       the list of them, in CycloneDX 1.5 (JSON)

Reads what cargo says of the Linux program, and the licence files of the downloaded
sources. Neither depends on the folder, the home or the time. Run it in the repository.
"""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

SYSTEM = "x86_64-unknown-linux-musl"
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
# What is linked besides crates.
RUST_AND_C = [
    ("the Rust standard library", "MIT OR Apache-2.0", "Copyright (c) The Rust Project Contributors"),
    (
        "musl, the C library",
        "MIT",
        "Copyright © 2005-2020 Rich Felker, et al.\n\n"
        "Permission is hereby granted, free of charge, to any person obtaining a copy of this\n"
        'software and associated documentation files (the "Software"), to deal in the Software\n'
        "without restriction, including without limitation the rights to use, copy, modify, merge,\n"
        "publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons\n"
        "to whom the Software is furnished to do so, subject to the following conditions:\n\n"
        "The above copyright notice and this permission notice shall be included in all copies or\n"
        "substantial portions of the Software.\n\n"
        'THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,\n'
        "INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR\n"
        "PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE\n"
        "FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR\n"
        "OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER\n"
        "DEALINGS IN THE SOFTWARE.",
    ),
]


def metadata():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", SYSTEM]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def linked(data):
    """The packages whose code ends up in the program: ours, and the others by name and version.

    Libraries of tests and code that only runs while building (procedural macros, build
    scripts) are not in it; `cargo tree` knows which those are, `cargo metadata` does not.
    """
    command = ["cargo", "tree", "--locked", "--target", SYSTEM, "--edges", "normal,no-proc-macro"]
    command += ["--prefix", "none", "--format", "{p}"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    names = {tuple(line.split(" ")[:2]) for line in lines if line}
    packages = [package for package in data["packages"] if (package["name"], "v" + package["version"]) in names]
    ours = next(package for package in packages if package["id"] == data["resolve"]["root"])
    others = [package for package in packages if package is not ours]
    return ours, sorted(others, key=lambda it: (it["name"], it["version"]))


def checksums():
    """The SHA-256 of each downloaded package, from Cargo.lock."""
    entry = re.compile(r'name = "(.*)"\nversion = "(.*)"\nsource = ".*"\nchecksum = "(.*)"')
    return {(name, version): digest for name, version, digest in entry.findall(Path("Cargo.lock").read_text())}


def licence_texts(package):
    folder = Path(package["manifest_path"]).parent
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and LICENCE_FILE.match(file.name)]
    texts = [file.read_text(encoding="utf-8", errors="replace").replace("\r", "").strip() for file in files]
    return [text for text in texts if text]


def notices():
    _, packages = linked(metadata())
    out = [
        "Third-party notices",
        "",
        "knockd and knock contain the following libraries. Each may be used under the licence that is",
        "named with it (OR: one of them); the texts follow.",
        "",
    ]
    out += [f"  {name}: {licence}" for name, licence, _ in RUST_AND_C]
    texts = {}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        out.append(f"  {name}: {package['license'] or 'see the text'}")
        found = licence_texts(package)
        if not found:
            authors = ", ".join(re.sub(r" *<[^>]*>", "", author) for author in package["authors"])
            found = [f"Copyright (c) {authors or 'the authors of ' + package['name']}"]
        for text in found:
            # The same text may be wrapped differently, and the Apache licence has no name in it.
            key = " ".join(text.split())
            texts.setdefault(key, (text, []))[1].append(name)
    for name, _, text in RUST_AND_C:
        texts[name] = (text, [name])
    for text, names in sorted(texts.values(), key=lambda it: it[1]):
        out += ["", "-" * 78, ", ".join(names), "", text]
    print("\n".join(out))


def sbom():
    data = metadata()
    ours, packages = linked(data)
    digests = checksums()

    def component(package, kind):
        name, version = package["name"], package["version"]
        reference = f"pkg:cargo/{name}@{version}"
        found = {"type": kind, "bom-ref": reference, "name": name, "version": version, "purl": reference}
        if package["license"]:
            found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        if (name, version) in digests:
            found["hashes"] = [{"alg": "SHA-256", "content": digests[name, version]}]
        return found

    references = {package["id"]: f"pkg:cargo/{package['name']}@{package['version']}" for package in [ours, *packages]}
    graph = []
    for node in data["resolve"]["nodes"]:
        if node["id"] in references:
            on = sorted({references[it["pkg"]] for it in node["deps"] if it["pkg"] in references})
            graph.append({"ref": references[node["id"]], "dependsOn": on})
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(ours, "application")},
        "components": [component(package, "library") for package in packages],
        "dependencies": sorted(graph, key=lambda it: it["ref"]),
    }
    # A serial number that the contents decide, so that the same release has the same.
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    serial = f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
    document["serialNumber"] = f"urn:uuid:{serial}"
    print(json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False))


if __name__ == "__main__":
    actions = {"notices": notices, "sbom": sbom}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        sys.exit(__doc__)
    actions[sys.argv[1]]()
