"""Makes serializers.json: what kombu writes for one value in every serializer, and what the value is in kombu's JSON.

    python shared/protocol/tests/data/serializers.py      # needs kombu, PyYAML, msgpack
"""
import base64
import json
import pickle
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

from kombu.serialization import dumps
from kombu.utils import json as kombu_json

PLAIN = {
    "none": None, "true": True, "false": False, "small": 7, "byte": 200, "short": 60000, "negative": -1, "int32": -2**31,
    "long": 2**63 - 1, "longest": 2**64 - 1, "float": 1.5, "tiny": 1e-300, "big": 1e300, "whole": 3.0, "zero": 0,
    "infinite": float("inf"), "minus_infinite": float("-inf"),
    "text": "naïve – 中文 🎉", "lines": "one\ntwo\n\n  three\t", "quotes": "it's \"so\"", "backslash": "a\\b", "empty": "",
    "control": "\x00\x07\x7f\x85\u2028\ufeff",
    "looks": ["yes", "no", "on", "null", "~", "1", "1.5", "0x1f", "010", "1:30", "2024-01-02", "2024-01-02 03:04:05", "<<",
              "=", "- a", "a: b", "# c", "*a", "&a", "!a", "%a", "@a", "'", '"', "{", "[", "1e3", ".inf", "True", " a "],
    "list": [1, [2, [3, []]], {}], "map": {"a": {"b": {"c": None}}, "": "empty key", "k" * 1500: "long key"},
    "long_text": "word " * 300,
}
TUPLES = {"tuple": (1, (2, 3), ()), "one": (1,)}
BYTES = {"bytes": b"abc", "raw": b"\xff\x00\xfe", "none": b""}
TIMES = {
    "date": date(2024, 1, 2), "naive": datetime(2024, 1, 2, 3, 4, 5), "micros": datetime(2024, 1, 2, 3, 4, 5, 6),
    "utc": datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    "offset": datetime(2024, 1, 2, 3, 4, 5, 120000, tzinfo=timezone(-timedelta(hours=3, minutes=30))),
}
HUGE = {"huge": 2**200, "huge_negative": -(2**200), "edge": -(2**63), "beyond": -(2**63) - 1}
SHARED = ["shared"]
SHARING = {"a": SHARED, "b": [SHARED, SHARED]}
SETS = {"set": {1}, "empty": set(), "frozen": frozenset({"x"})}
KEYS = {1: "one", 2.5: "float", True: "true", None: "none"}
ASCII_BYTES = {"latin": "é ü \u0100 \\u0041", "bytearray": bytearray(b"ba")}


def jsonable(value):
    """The value in kombu's JSON: sets as lists, keys as text."""
    if isinstance(value, dict):
        return {json.loads(json.dumps({k: 0})).popitem()[0] if not isinstance(k, str) else k: jsonable(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset, tuple, list)):
        return [jsonable(v) for v in value]
    return bytes(value) if isinstance(value, bytearray) else value


samples = []


def add(name, value, content_type, body):
    body = body.encode() if isinstance(body, str) else body
    samples.append({"name": name, "content_type": content_type, "body": base64.b64encode(body).decode(),
                    "value": json.loads(kombu_json.dumps(jsonable(value)))})


for name, value in {"plain": PLAIN, "tuples": TUPLES, "bytes": BYTES, "times": TIMES, "huge": HUGE, "sharing": SHARING}.items():
    for serializer in ("yaml", "msgpack", "json"):
        if serializer == "msgpack" and name in ("times", "huge"):
            continue  # msgpack refuses both
        content_type, encoding, body = dumps(value, serializer=serializer)
        add(f"{serializer}-{name}", value, content_type, body)
for protocol in range(6):
    for name, value in {"plain": PLAIN, "tuples": TUPLES, "bytes": BYTES, "huge": HUGE, "sharing": SHARING, "sets": SETS,
                        "keys": KEYS, "more": ASCII_BYTES}.items():
        add(f"pickle{protocol}-{name}", value, "application/x-python-serialize", pickle.dumps(value, protocol))
add("yaml-sets", {"set": {1}, "empty": set()}, "application/x-yaml", dumps({"set": {1}, "empty": set()}, serializer="yaml")[2])
for name, text in {
    "written by hand": "a: yes\nb: 0b101\nc: 0x_ff\nd: 1_000\ne: 1:30\nf: 1:30.5\ng: 010\nh: .5\ni: 1.\nj: +12\nk: 1e3\n"
                       "l: 2024-1-2 3:04:05 -3\nm: 2024-01-02T03:04:05.123Z\nn: !!str 1\no: ! 1\np: !!float 1\nq: ~\nr:\ns: 08\n",
    "blocks": "a: |\n  one\n  two\nb: >-\n  one\n  two\nc:\n- 1\n-\n  - 2\nd: 'it''s'\ne: \"\\u00e9\\x41\\n\"\n? f\n: g\n",
    "aliases": "base: &b {x: 1, y: 2}\nsame: *b\nmerged: {<<: *b, y: 3}\nmany: {<<: [*b, {z: 4, x: 9}]}\n",
    "tags": "- !!binary aGk=\n- !!set {a, b}\n- !!omap [a: 1, b: 2]\n- !!pairs [a: 1, a: 2]\n- !!null ''\n- !!bool no\n- !!int 7\n"
            "- !!timestamp 2024-01-02\n- !!map {}\n- !!seq []\n",
    "nothing": "",
}.items():
    import yaml
    add(f"yaml {name}", yaml.safe_load(text), "application/x-yaml", text)

path = Path(__file__).with_suffix(".json")
path.write_text("[\n" + ",\n".join(json.dumps(sample, ensure_ascii=False) for sample in samples) + "\n]\n", encoding="utf-8")
print(len(samples), "samples in", path.name)
