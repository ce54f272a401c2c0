# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""The same faults as faulty.py, as a script that speaks the protocol by hand."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

CARD = {"name": "faulty-script", "summary": "Fails as the sample's id says.", "licence": "Apache-2.0"}


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")


for line in sys.stdin:
    request = json.loads(line)
    if request["type"] == "hello":
        sys.stdout.write("Loading checkpoint shards: 100%" + "\n")
        if request["options"].get("refuse"):
            say({"type": "ready", "error": "no GPU was found"})
        else:
            say({"type": "ready", "card": CARD})
        continue
    if request["type"] == "close":
        break
    kind = request["id"].split("-", 1)[0]
    answer = {"type": "result", "id": request["id"], "ok": True, "facts": {"price_usd": 0.25, "nested": {"a": 1}}}
    shutil.copy(request["draft"], request["output"])
    if kind == "size":
        shutil.copy(request["reference"], request["output"])
    elif kind == "nothing":
        Path(request["output"]).unlink()
    elif kind == "text":
        Path(request["output"]).write_text("not a picture")
    elif kind == "link":
        Path(request["output"]).unlink()
        Path(request["output"]).symlink_to(request["draft"])
    elif kind == "raises":
        answer = {"type": "result", "id": request["id"], "ok": False, "error": "ValueError: bad\n\x1b[31mweights"}
    elif kind == "refuses":
        answer = {"type": "result", "id": request["id"], "ok": False, "refused": True, "error": "declined"}
    elif kind == "late":
        sys.stderr.write("step 1 of 1000\n")
        sys.stderr.flush()
        time.sleep(60)
    elif kind == "dies":
        sys.stderr.write("Segmentation fault\n" * 100_000)
        sys.exit(3)
    elif kind == "noisy":
        sys.stdout.write("x" * 3_000_000 + "\n")
        sys.stdout.write("{broken json" + "\n")
        sys.stdout.write("[" * 5000 + "\n")
        sys.stdout.write('{"type": "result", "id": "another", "ok": true}' + "\n")
        sys.stdout.write('"result"' + "\n")
        sys.stderr.write("warning\n" * 300_000)
    elif kind == "environment":
        answer["facts"] = {"cache": os.environ.get("REFBENCH_CACHE", "none"), "folder": str(Path.cwd())}
    say(answer)
