#!/usr/bin/env python3
"""Writes an OCI image (an archive for podman, skopeo, containerd) with the static program.

    oci.py TARGET VERSION PROGRAM NOTICES FILE

It contains /usr/sbin/knockd, /usr/bin/knock and their notices, and nothing else: no shell.
So it is for the client, and for doors that need no command (Open, Guard); for others,
take contrib/container. The configuration is mounted at /etc/knockd.conf.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
import time

# OCI's names of the processor, and its variant.
PLATFORMS = {
    "x86_64": {"architecture": "amd64"},
    "aarch64": {"architecture": "arm64", "variant": "v8"},
    "armv7": {"architecture": "arm", "variant": "v7"},
    "riscv64": {"architecture": "riscv64"},
}


def main(target, version, program, notices, destination):
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])

    def entry(name, kind=tarfile.REGTYPE, mode=0o644, size=0, link=""):
        it = tarfile.TarInfo(name)
        it.type, it.mode, it.size, it.linkname, it.mtime = kind, mode, size, link, epoch
        return it

    def write(tar, name, data, mode=0o644):
        tar.addfile(entry(name, mode=mode, size=len(data)), io.BytesIO(data))

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in ["etc", "run", "usr", "usr/bin", "usr/sbin", "usr/share", "usr/share/doc", "var", "var/lib"]:
            tar.addfile(entry(folder, tarfile.DIRTYPE, 0o755))
        # The default pid file is /var/run/knockd.pid.
        tar.addfile(entry("var/run", tarfile.SYMTYPE, 0o777, link="../run"))
        with open(program, "rb") as file:
            write(tar, "usr/sbin/knockd", file.read(), 0o755)
        tar.addfile(entry("usr/bin/knock", tarfile.SYMTYPE, 0o777, link="../sbin/knockd"))
        with open(notices, "rb") as file:
            write(tar, "usr/share/doc/knockd.notices.gz", gzip.compress(file.read(), 9, mtime=0))

    blobs = {}

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def text(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    labels = {
        "org.opencontainers.image.title": "knockd",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
    }
    config = {
        "created": created,
        "os": "linux",
        **PLATFORMS[target],
        "config": {"Entrypoint": ["/usr/sbin/knockd"], "Cmd": ["-i", "auto"], "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
        "history": [{"created": created, "created_by": "contrib/package.sh oci"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(text(config), "config.v1+json"),
        "layers": [blob(gzip.compress(layer.getvalue(), 9, mtime=0), "layer.v1.tar+gzip")],
    }
    described = blob(text(manifest), "manifest.v1+json")
    described["platform"] = {"os": "linux", **PLATFORMS[target]}
    described["annotations"] = {"org.opencontainers.image.ref.name": version}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [described]}

    with tarfile.open(destination, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for folder in ["blobs", "blobs/sha256"]:
            tar.addfile(entry(folder, tarfile.DIRTYPE, 0o755))
        for name, data in sorted(blobs.items()):
            write(tar, name, data)
        write(tar, "index.json", text(index))
        write(tar, "oci-layout", text({"imageLayoutVersion": "1.0.0"}))


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
