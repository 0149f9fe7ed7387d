#!/bin/bash
# The linker of the small program for x86_64, contrib/outline, on a program of its own.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

if [ "$(uname -m)" != x86_64 ]; then
    skipped "the linker for x86_64" "this is another machine"
    exit 0
fi
for tool in as ld nm objdump; do
    if ! command -v $tool >/dev/null; then
        skipped "the linker for x86_64" "there is no $tool: it is in Debian's binutils"
        exit 0
    fi
done
python3 -B "$CONTRIB/tests/outline.py" || failed "outline.py ended with code $?"
